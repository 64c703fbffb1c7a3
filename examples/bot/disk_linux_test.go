package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
)

// TestFullDisk has a child with a file system of its own that is too small for the file. The child
// has namespaces of its own, so that its mount is seen by nobody else and needs no privileges where
// the kernel allows that to all.
func TestFullDisk(t *testing.T) {
	if !isChild() {
		t.Parallel()
		cmd := child(t, t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil && strings.Contains(string(out), "--- PASS"):
		case strings.Contains(string(out), cannotMount) || cmd.ProcessState == nil:
			t.Skipf("this machine lets nobody mount a small file system: %v\n%s", err, out)
		default:
			t.Errorf("%v\n%s", err, out)
		}
		return
	}

	s := newStage(t)
	s.cfg.dir = os.Getenv(childDirectory)
	if err := syscall.Mount("tmpfs", s.cfg.dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(cannotMount, err)
	}
	contents := make([]byte, 1<<20)
	rand.Read(contents)
	large, small := s.box.Upload(contents, whatsmeow.MediaDocument), mustDraw(t, s, 1)
	quote := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text:        reply(small).ExtendedTextMessage.Text,
		ContextInfo: &waE2E.ContextInfo{QuotedMessage: &waE2E.Message{DocumentMessage: large.Document()}},
	}}
	defer func() {
		if t.Failed() {
			t.Log(s.story())
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := s.withBot(ctx, func(*bot) error {
		if err := s.deliver("", &waE2E.Message{DocumentMessage: large.Document()}); err != nil {
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
		if err := sendPicture(s, small); err != nil { // there is room for this
			return err
		}
		return s.waitSaved(ctx, small)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTargetKeepsWhatTheDiskSays writes to a device that is always full.
func TestTargetKeepsWhatTheDiskSays(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	target := &target{File: full}
	_, err = target.Write([]byte("anything"))
	var network net.Error
	if err == nil || errors.As(err, &network) {
		t.Errorf("whatsmeow would try again after %v", err)
	}
	if !isDiskFull(target.err) {
		t.Errorf("it has kept %v", target.err)
	}
}

const cannotMount = "the small file system cannot be mounted: "
