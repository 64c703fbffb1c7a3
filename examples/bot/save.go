package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
)

// An attachment is the file of a message.
type attachment interface {
	whatsmeow.DownloadableMessage
	GetMimetype() string
}

// attachmentOf returns the picture, video, audio or document of a message, or nil.
func attachmentOf(msg *waE2E.Message) attachment {
	switch {
	case msg.GetImageMessage() != nil:
		return msg.GetImageMessage()
	case msg.GetVideoMessage() != nil:
		return msg.GetVideoMessage()
	case msg.GetPtvMessage() != nil: // a round video
		return msg.GetPtvMessage()
	case msg.GetAudioMessage() != nil:
		return msg.GetAudioMessage()
	case msg.GetDocumentMessage() != nil:
		return msg.GetDocumentMessage()
	}
	return nil
}

// save downloads a file and returns its name in the media directory. When it returns without an
// error, the whole file is there and a power cut does not take it away; a file that is not whole is
// never there. It does nothing if the file is there already.
func (b *bot) save(ctx context.Context, file attachment) (name string, err error) {
	if n := len(file.GetFileSHA256()); n != sha256.Size {
		return "", fmt.Errorf("the message has a checksum of %d bytes for its file; ask for it to be sent again", n)
	}
	name = fileName(file)
	switch err = b.verify(name, file.GetFileSHA256()); {
	case err == nil:
		return name, nil
	case !errors.Is(err, fs.ErrNotExist):
		b.log.Warnf("Replacing %s, which is broken: %v", name, err)
	}
	// In the same directory, since a file can only be renamed within its file system.
	temporary := "." + rand.Text() + ".part"
	f, err := b.create(temporary)
	if err != nil {
		return "", fmt.Errorf("check the directory of -dir: %w", err)
	}
	if err = b.fill(ctx, f, file); err == nil {
		err = b.media.Rename(temporary, name)
	}
	if err != nil {
		_ = b.media.Remove(temporary)
		return "", err
	}
	return name, b.syncDirectory()
}

func (b *bot) createFile(name string) (*os.File, error) {
	return b.media.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// fill downloads into a new file and closes it. Without the sync, a power cut could leave an empty
// file under the final name, since the disk may learn of the new name before it gets the data.
func (b *bot) fill(ctx context.Context, f *os.File, file attachment) error {
	// Plain whatsmeow. This heals, because the index knows which message the file belongs to.
	target := &target{File: f}
	err := b.client.DownloadToFile(ctx, file, target)
	switch {
	case target.err != nil:
		err = target.err
	case err == nil:
		err = b.sync(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
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

// syncDirectory brings the names in the media directory to the disk.
func (b *bot) syncDirectory() error {
	if runtime.GOOS == "windows" { // which does it by itself, and has no call for it
		return nil
	}
	dir, err := b.media.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return b.sync(dir)
}

// verify returns nil if a file is there and whole. The error is fs.ErrNotExist, or says
// what is wrong.
func (b *bot) verify(name string, checksum []byte) error {
	f, err := b.media.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err = io.Copy(hash, f); err != nil {
		return err
	}
	if !bytes.Equal(hash.Sum(nil), checksum) {
		return errors.New("it has another checksum")
	}
	return nil
}

// leftover is what save calls a file that is not there completely yet.
var leftover = regexp.MustCompile(`^\.[A-Z2-7]{26}\.part$`)

// removeLeftovers removes what a run has left that was killed while it downloaded.
func (b *bot) removeLeftovers() error {
	entries, err := fs.ReadDir(b.media.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if leftover.MatchString(entry.Name()) {
			if err = b.media.Remove(entry.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// isDiskFull reports whether an error means that the disk is full, or the user's part of it.
func isDiskFull(err error) bool {
	const errorDiskFull = syscall.Errno(112) // of Windows, where syscall.ENOSPC is a number of Go's own
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		runtime.GOOS == "windows" && errors.Is(err, errorDiskFull)
}

// fileName makes the name of a file from its checksum and the extension of its type. So a file has
// one name, whether it comes with its message or is healed for a member who quotes it; a file that
// is sent twice is saved once; and no sender can make a file that takes another one's name. The
// name that the sender gave the file is not used.
func fileName(file attachment) string {
	return fmt.Sprintf("%.16x", file.GetFileSHA256()) + extension(file.GetMimetype())
}

// extensions are the ones that this bot gives to files, so that no sender can make it
// write a program.
var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif", "image/heic": ".heic",
	"video/mp4": ".mp4", "video/3gpp": ".3gp", "video/quicktime": ".mov", "video/webm": ".webm",
	"audio/ogg": ".ogg", "audio/mpeg": ".mp3", "audio/mp4": ".m4a", "audio/aac": ".aac", "audio/amr": ".amr", "audio/wav": ".wav",
	"application/pdf": ".pdf", "application/zip": ".zip", "text/plain": ".txt", "text/csv": ".csv",
	"application/msword": ".doc", "application/vnd.ms-excel": ".xls", "application/vnd.ms-powerpoint": ".ppt",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document":   ".docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":         ".xlsx",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}

// extension returns the extension for a type such as "audio/ogg; codecs=opus".
func extension(mimetype string) string {
	base, _, err := mime.ParseMediaType(mimetype)
	if err != nil {
		base, _, _ = strings.Cut(strings.ToLower(mimetype), ";")
	}
	if ext, ok := extensions[strings.TrimSpace(base)]; ok {
		return ext
	}
	return ".bin"
}
