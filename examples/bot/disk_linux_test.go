package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
)

// openFull opens a device that is always full: each write gets ENOSPC.
func openFull() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }

// judgeTarget wants an error that whatsmeow does not take for one of the network. If it did, it
// would read the device in the end, which never ends.
func judgeTarget() error {
	full, err := openFull()
	if err != nil {
		return err
	}
	defer full.Close()
	target := &target{File: full}
	_, err = target.Write([]byte("anything"))
	if network := net.Error(nil); err == nil || errors.As(err, &network) {
		return fmt.Errorf("whatsmeow would try again after %v", err)
	}
	if !isDiskFull(target.err) {
		return fmt.Errorf("it has kept %v", target.err)
	}
	return nil
}

// TestFullDisk has a disk on which files can be made, and nothing be written to them, until
// somebody makes room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if err := judgeTarget(); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	document, picture := s.box.Upload(make([]byte, 100_000), whatsmeow.MediaDocument), mustDraw(t, s, 1)
	quote := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text:        reply(picture).ExtendedTextMessage.Text,
		ContextInfo: &waE2E.ContextInfo{QuotedMessage: &waE2E.Message{DocumentMessage: document.Document()}},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.withBot(ctx, func(b *bot) error {
		var full atomic.Bool
		full.Store(true)
		b.create = func(name string) (*os.File, error) {
			f, err := b.createFile(name)
			if err != nil || !full.Load() {
				return f, err
			}
			if err = f.Close(); err != nil {
				return nil, err
			}
			return openFull()
		}
		if err := s.deliver("", &waE2E.Message{DocumentMessage: document.Document()}); err != nil {
			return err
		}
		got, err := s.next(ctx)
		if err != nil {
			return err
		}
		if got.to != s.phone.PN || !strings.Contains(got.text, "disk is full") {
			return fmt.Errorf("the owner should have been told, and %s was told %q", got.to, got.text)
		}
		if err := s.deliver("", quote); err != nil {
			return err
		}
		if got, err = s.next(ctx); err != nil {
			return err
		}
		if got.to.User != sender.User && got.to.User != senderLID.User || !strings.HasPrefix(got.text, "My disk is full") {
			return fmt.Errorf("whoever asks should have been told, and %s was told %q", got.to, got.text)
		}
		if names := s.files(t); len(names) > 0 {
			return fmt.Errorf("it has left %v", names)
		}
		full.Store(false)
		if err := sendPicture(s, picture); err != nil {
			return err
		}
		return s.waitSaved(ctx, picture)
	})
	if err != nil {
		t.Errorf("%v, after\n%s", err, s.story())
	}
}
