package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"go.mau.fi/whatsmeow"
)

// A writer has the directory that files are saved in. When it has saved a file, the whole file is
// there and a power cut does not take it away; a file that is not whole is never there.
type writer struct {
	root *os.Root // nothing that a message says leads out of it

	// create makes a new file, and sync is (*os.File).Sync; tests of a disk that fails replace
	// both.
	create func(name string) (*os.File, error)
	sync   func(*os.File) error

	mu    sync.Mutex
	there map[string]bool // folders whose own names are on the disk
}

// openWriter opens the directory, and removes what a run has left that was killed while it
// downloaded.
func openWriter(dir string) (*writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	w := &writer{root: root, sync: (*os.File).Sync, there: make(map[string]bool)}
	w.create = func(name string) (*os.File, error) {
		return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err = w.removeLeftovers(); err != nil {
		_ = root.Close()
		return nil, err
	}
	return w, nil
}

func (w *writer) close() { _ = w.root.Close() }

// leftover is what save calls a file that is not there completely yet.
var leftover = regexp.MustCompile(`^\.[A-Z2-7]{26}\.part$`)

func (w *writer) removeLeftovers() error {
	entries, err := fs.ReadDir(w.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if leftover.MatchString(entry.Name()) {
			if err = w.root.Remove(entry.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// save saves a file under a path, with what fill writes. It does nothing if the file is there
// already, whole.
func (w *writer) save(name string, checksum []byte, fill func(*os.File) error) error {
	switch err := w.verify(name, checksum); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errBroken):
		return err
	}
	folder := path.Dir(name)
	if err := w.root.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return w.replace(name, fill)
}

// replace puts a file in the place of the one with its name, if there is one.
func (w *writer) replace(name string, fill func(*os.File) error) error {
	temporary := "." + rand.Text() + ".part"
	f, err := w.create(temporary)
	if err != nil {
		return err
	}
	if err = fill(f); err == nil {
		err = w.sync(f) // or a power cut could leave an empty file under the final name
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = w.root.Rename(temporary, name)
	}
	if err != nil {
		_ = w.root.Remove(temporary)
		return err
	}
	return w.syncNames(path.Dir(name))
}

// syncNames brings the names in a folder to the disk, and if it is new its own name, which is in
// the one above it.
func (w *writer) syncNames(folder string) error {
	err := w.syncDirectory(folder)
	w.mu.Lock()
	defer w.mu.Unlock()
	for above := folder; err == nil && above != "." && !w.there[above]; above = path.Dir(above) {
		if err = w.syncDirectory(path.Dir(above)); err == nil {
			w.there[above] = true
		}
	}
	return err
}

// syncDirectory brings the names in a directory to the disk.
func (w *writer) syncDirectory(name string) error {
	if runtime.GOOS == "windows" { // which does it by itself, and has no call for it
		return nil
	}
	dir, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return w.sync(dir)
}

var errBroken = errors.New("it has another checksum")

// verify returns nil if a file is there and whole. The error is fs.ErrNotExist, or says what is
// wrong.
func (w *writer) verify(name string, checksum []byte) error {
	f, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return copyVerified(io.Discard, f, checksum)
}

// copyFrom returns a fill that copies a file that is saved already.
func (w *writer) copyFrom(name string, checksum []byte) func(*os.File) error {
	return func(to *os.File) error {
		from, err := w.root.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		return copyVerified(to, from, checksum)
	}
}

func copyVerified(to io.Writer, from io.Reader, checksum []byte) error {
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, hash), from); err != nil {
		return err
	}
	if !bytes.Equal(hash.Sum(nil), checksum) {
		return errBroken
	}
	return nil
}

// A target is a file that whatsmeow downloads to. It keeps what the disk says, for whatsmeow does
// not: it takes an error of the operating system for one of the network, tries again for a quarter
// of a minute, and then reports that the file is damaged.
type target struct {
	whatsmeow.File
	err error
}

func (t *target) Write(p []byte) (int, error) {
	n, err := t.File.Write(p)
	if err != nil {
		t.err = err
		err = errors.New(err.Error()) // a plain one, which ends the download
	}
	return n, err
}

// A diskError is one that no other file will fare better with.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// onDisk makes an error of the disk one that ends the run.
func onDisk(err error) error {
	switch {
	case err == nil:
		return nil
	case isDiskFull(err):
		return diskError{fmt.Errorf("%s: %w", makeRoom, err)}
	}
	return diskError{fmt.Errorf("files cannot be written; check the directory of -dir and start again: %w", err)}
}

// inDatabase makes an error of the database one that says what to do.
func inDatabase(err error) error {
	if strings.Contains(err.Error(), "database or disk is full") { // SQLITE_FULL
		return fmt.Errorf("%s: %w", makeRoom, err)
	}
	return fmt.Errorf("the database cannot be used; check the file of -db and start again: %w", err)
}

const makeRoom = "the disk is full; make room and start again, nothing is lost"

// isDiskFull reports whether an error means that the disk is full, or the user's part of it.
func isDiskFull(err error) bool {
	const errorDiskFull = syscall.Errno(112) // of Windows, where syscall.ENOSPC is a number of Go's own
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		runtime.GOOS == "windows" && errors.Is(err, errorDiskFull)
}
