package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// sendPicture delivers a message with a picture.
func sendPicture(s *stage, of *wabox.Media) error {
	return s.deliver("", &waE2E.Message{ImageMessage: pictureOf(of)})
}

func TestHealedFileHasTheSameName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	picture := mustDraw(t, s, 1)
	err := s.withBot(t.Context(), func(*bot) error {
		if err := sendPicture(s, picture); err != nil {
			return err
		}
		if err := s.waitSaved(t.Context(), picture); err != nil {
			return err
		}
		before := s.files(t)
		if err := os.Remove(filepath.Join(s.cfg.dir, before[0])); err != nil {
			return err
		}
		s.box.Expire(picture)
		if err := s.deliver("", reply(picture)); err != nil {
			return err
		}
		if err := s.expect(t.Context(), "Saved as "+before[0]+"."); err != nil {
			return err
		}
		if after := s.files(t); !slices.Equal(after, before) {
			return fmt.Errorf("it was %s, and is %s", before, after)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if s.phone.RequestCount() == 0 {
		t.Error("it was not healed")
	}
}

// TestFilesAreSynced wants the data on the disk before the file has its name, and then the name.
func TestFilesAreSynced(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	picture := mustDraw(t, s, 1)
	var synced []string
	err := s.withBot(t.Context(), func(b *bot) error {
		final := filepath.Join(s.cfg.dir, fileName(pictureOf(picture)))
		b.sync = func(f *os.File) error {
			what := "the directory"
			info, err := f.Stat()
			if err == nil && !info.IsDir() {
				what = fmt.Sprintf("%d bytes", info.Size())
			}
			_, missing := os.Stat(final)
			synced = append(synced, fmt.Sprintf("%s, named: %v", what, missing == nil))
			return errors.Join(err, f.Sync())
		}
		_, err := b.save(t.Context(), pictureOf(picture))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("%d bytes, named: false", len(picture.Plaintext)),
		"the directory, named: true",
	}
	if !slices.Equal(synced, want) {
		t.Errorf("got %q, want %q", synced, want)
	}
}

func TestFailedSyncLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	picture := mustDraw(t, s, 1)
	err := s.withBot(t.Context(), func(b *bot) error {
		b.sync = func(*os.File) error { return syscall.EIO }
		if name, err := b.save(t.Context(), pictureOf(picture)); err == nil {
			t.Errorf("saved as %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if names := s.files(t); len(names) > 0 {
		t.Errorf("got %v", names)
	}
}

func TestBrokenFileIsReplaced(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(t *testing.T, path string, whole []byte) error{
		"truncated": func(_ *testing.T, path string, _ []byte) error { return os.Truncate(path, 7) },
		"empty":     func(_ *testing.T, path string, _ []byte) error { return os.Truncate(path, 0) },
		"one bit": func(_ *testing.T, path string, whole []byte) error {
			wrong := bytes.Clone(whole)
			wrong[len(wrong)/2] ^= 1
			return os.WriteFile(path, wrong, 0o600)
		},
		"a link out of the directory": func(t *testing.T, path string, whole []byte) error {
			outside := filepath.Join(t.TempDir(), "outside")
			t.Cleanup(func() {
				if left, err := os.ReadFile(outside); err != nil || string(left) != "outside" {
					t.Errorf("the file outside is %q, %v", left, err)
				}
			})
			return errors.Join(os.WriteFile(outside, []byte("outside"), 0o600), os.Remove(path), os.Symlink(outside, path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			picture := mustDraw(t, s, 1)
			path := filepath.Join(s.cfg.dir, fileName(pictureOf(picture)))
			err := s.withBot(t.Context(), func(b *bot) error {
				if _, err := b.save(t.Context(), pictureOf(picture)); err != nil {
					return err
				}
				if err := breakIt(t, path, picture.Plaintext); err != nil {
					return err
				}
				s.box.Expire(picture) // it heals at the same time
				s.phone.Knows("3EB0AA", picture)
				if err := sendPicture(s, picture); err != nil {
					return err
				}
				if err := s.deliver("", reply(picture)); err != nil {
					return err
				}
				return s.expect(t.Context(), "Saved as "+filepath.Base(path)+".")
			})
			if err != nil {
				t.Error(err)
			}
			if saved, err := os.ReadFile(path); err != nil || !bytes.Equal(saved, picture.Plaintext) {
				t.Errorf("it is still broken: %d bytes, %v", len(saved), err)
			}
		})
	}
}

// childVariable makes the process of a test a child that does what its value says, in a directory.
const childVariable, childDirectory = "REUPLOAD_BOT_CHILD", "REUPLOAD_BOT_DIRECTORY"

// child returns a command that runs one test in a process of its own.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), childVariable+"=1", childDirectory+"="+dir)
	return cmd
}

func isChild() bool { return os.Getenv(childVariable) != "" }

func TestLeftoversOfAKilledRunGo(t *testing.T) {
	s := newStage(t)
	if isChild() { // downloads until it is killed
		s.cfg.dir = os.Getenv(childDirectory)
		picture := mustDraw(t, s, 1)
		s.box.Stall(picture.DirectPath, make(chan struct{}))
		err := s.withBot(t.Context(), func(*bot) error {
			if err := sendPicture(s, picture); err != nil {
				return err
			}
			<-t.Context().Done()
			return nil
		})
		t.Fatal("the child has ended by itself: ", err)
	}
	t.Parallel()
	if err := os.Mkdir(s.cfg.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mine := []string{".mine.part", "photo.part"}
	for _, name := range mine {
		if err := os.WriteFile(filepath.Join(s.cfg.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killed := child(t, s.cfg.dir)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); len(s.files(t)) == len(mine); {
		if time.Now().After(deadline) {
			t.Error("the child does not download")
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if t.Failed() {
		return
	}
	if err := s.withBot(t.Context(), func(*bot) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if names := s.files(t); !slices.Equal(names, mine) {
		t.Errorf("got %v, want %v", names, mine)
	}
}

func TestWarningOfAFullDiskComesOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withBot(t.Context(), func(b *bot) error {
		b.warnOwner(t.Context(), syscall.EIO)
		b.warnOwner(t.Context(), fmt.Errorf("wrapped: %w", syscall.ENOSPC))
		b.warnOwner(t.Context(), syscall.ENOSPC)
		got := <-s.answers
		if want := s.phone.PN; got.to != want || !strings.Contains(got.text, "disk is full") {
			t.Errorf("got %q to %s, want it to %s", got.text, got.to, want)
		}
		if n := len(s.answers); n > 0 {
			t.Errorf("got %d more", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
