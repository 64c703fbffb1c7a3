package reupload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// A Kind is what sort of file it is that a message has.
type Kind string

const (
	KindImage       Kind = "image"
	KindVideo       Kind = "video" // round ones and those that play like a GIF too
	KindAudio       Kind = "audio" // voice messages too
	KindDocument    Kind = "document"
	KindSticker     Kind = "sticker"
	KindStickerPack Kind = "sticker-pack" // a ZIP file with the stickers of a pack
	KindOther       Kind = "other"        // of a type that this package does not know yet
)

// Media is a file of a message, as [MediaOf] lists it.
type Media struct {
	// Request is for [Plugin.RequestReupload], [Plugin.RequestAll] and [WithRequest]. It names the
	// message that the file belongs to: of an edited file, the message that was edited.
	Request Request
	// Message is the part of the message that has the file, as whatsmeow's downloads take it. It is
	// not a copy.
	Message whatsmeow.DownloadableMessage
	Kind    Kind
	// MIMEType, Name and Size are what the sender says, and empty where he does not. Check them: a
	// name can be a path that leads anywhere. Documents have one, and sticker packs. Size is that
	// of the file in bytes, decrypted.
	MIMEType string
	Name     string
	Size     uint64
	// IsStatus reports whether it is a status, which lives for a day: in status@broadcast, or in a
	// group that has some of its own.
	IsStatus bool
}

// MediaOf lists the files of a message, as the plugin finds them: wherever they sit in it, in
// ephemeral, view-once and edited messages, in templates and cards. Of the events.Message that
// whatsmeow hands out, give it the RawMessage, which has everything that the message was wrapped
// in. It needs no plugin, and asks for nothing.
//
// There are 64 at the most, each once. What the message quotes is not in it: that is the file of
// another message, with an id, a sender and a time of its own, which the quote's sender can have
// made up. Neither are thumbnails, link previews, and what cannot be downloaded because its key or
// hash is missing. A file of a newsletter is in it as long as it has a path, although nothing can
// be asked for there: requests for it are [ErrNewsletter].
func MediaOf(info *types.MessageInfo, msg *waE2E.Message) []Media {
	if info == nil {
		return nil
	}
	var files []Media
	w := walker{most: filesPerMessage, list: func(c carrier, media whatsmeow.DownloadableMessage) bool {
		file, ok := listed(c, media)
		if !ok || slices.ContainsFunc(files, file.same) {
			return false
		}
		files = append(files, file)
		return true
	}}
	w.look(info, msg)
	return files
}

// listed describes a file that was found. It is not ok if it cannot be had.
func listed(c carrier, media whatsmeow.DownloadableMessage) (file Media, ok bool) {
	req := requestFor(c.source, c.id)
	req.MediaKey = bytes.Clone(media.GetMediaKey())
	normal, err := req.normalize()
	switch {
	case err == nil && len(media.GetFileEncSHA256()) == fileHashSize:
		req = normal
	case errors.Is(err, ErrNewsletter) && checkDirectPath(media.GetDirectPath()) == nil:
	default:
		return Media{}, false
	}
	file = Media{Request: req, Message: media, Kind: kindOf(media)}
	file.IsStatus = c.status || saysStatus(media) || req.Chat == types.StatusBroadcastJID
	if typed, has := media.(interface{ GetMimetype() string }); has {
		file.MIMEType = typed.GetMimetype()
	}
	if named, has := media.(interface{ GetFileName() string }); has {
		file.Name = named.GetFileName()
	} else if named, has := media.(interface{ GetName() string }); has { // a sticker pack
		file.Name = named.GetName()
	}
	if sized, has := media.(interface{ GetFileLength() uint64 }); has {
		file.Size = sized.GetFileLength()
	}
	return file, true
}

// same reports whether two files of one message are the same, as in the two forms of a template.
func (m Media) same(other Media) bool {
	return m.Request.MessageID == other.Request.MessageID && bytes.Equal(m.Request.MediaKey, other.Request.MediaKey) &&
		bytes.Equal(m.Message.GetFileEncSHA256(), other.Message.GetFileEncSHA256()) &&
		bytes.Equal(m.Message.GetFileSHA256(), other.Message.GetFileSHA256())
}

// String names the message and the kind of file, and no secrets.
func (m Media) String() string { return fmt.Sprintf("%s of %v", m.Kind, m.Request) }

// Format prints what String returns, whatever the verb: the media key is a secret.
func (m Media) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// LogValue implements [slog.LogValuer]: the media key is a secret.
func (m Media) LogValue() slog.Value { return slog.StringValue(m.String()) }

func kindOf(media whatsmeow.DownloadableMessage) Kind {
	if _, ok := media.(*waE2E.StickerMessage); ok { // which has the media type of an image
		return KindSticker
	}
	switch whatsmeow.GetMediaType(media) {
	case whatsmeow.MediaImage:
		return KindImage
	case whatsmeow.MediaVideo:
		return KindVideo
	case whatsmeow.MediaAudio:
		return KindAudio
	case whatsmeow.MediaDocument:
		return KindDocument
	case whatsmeow.MediaStickerPack:
		return KindStickerPack
	}
	return KindOther
}
