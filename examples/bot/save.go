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
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
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

// errTaken means that there is another file with the name already. A quote can claim any message id.
var errTaken = errors.New("there is another file of this name")

// save downloads a file and returns its name in the media directory. The file is there completely or not at all, and one
// that is there already stays.
func (b *bot) save(ctx context.Context, id types.MessageID, file attachment) (name string, err error) {
	name = fileName(id, file)
	switch has, err := b.has(name, file); {
	case err != nil:
		return "", err
	case has:
		return name, nil
	}
	temporary := "." + rand.Text() + ".part"
	f, err := b.media.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("check the directory of -dir: %w", err)
	}
	// Plain whatsmeow. This heals, because the index knows which message the file belongs to.
	err = b.client.DownloadToFile(ctx, file, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = b.name(temporary, name, file)
	}
	if err != nil {
		_ = b.media.Remove(temporary)
		return "", err
	}
	return name, nil
}

// name gives a downloaded file its name, unless another one has come by that meanwhile.
func (b *bot) name(temporary, name string, file attachment) error {
	b.naming.Lock()
	defer b.naming.Unlock()
	if _, err := b.has(name, file); err != nil {
		return err
	}
	return b.media.Rename(temporary, name)
}

// has tells whether a file is there already. The error is errTaken if it is another one.
func (b *bot) has(name string, file attachment) (bool, error) {
	f, err := b.media.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err = io.Copy(hash, f); err != nil {
		return false, err
	}
	if !bytes.Equal(hash.Sum(nil), file.GetFileSHA256()) {
		return false, errTaken
	}
	return true, nil
}

// safeID is what the ids of messages look like. A sender can make up another one, such as a path.
var safeID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$`)

// fileName makes up the name of a file: the message's id, or else the file's checksum, and an extension that its type has.
// The name that the sender gave the file is not used.
func fileName(id types.MessageID, file attachment) string {
	if !safeID.MatchString(id) {
		id = fmt.Sprintf("sha256-%.16x", file.GetFileSHA256())
	}
	return id + extension(file.GetMimetype())
}

// extensions are the ones that this bot gives to files, so that no sender can make it write a program.
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

// query is that of a URL, which is a key to the file and stays out of the log.
var query = regexp.MustCompile(`\?[^\s"'<>]+`)

func redact(line string) string { return query.ReplaceAllString(line, "?…") }
