package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// Download downloads the media of a message, and is client.Download for callers that hold the
// message: it heals even if the index has never seen it, and if it has no direct path. Its errors
// are whatsmeow's; see [Cause].
func (p *Plugin) Download(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) ([]byte, error) {
	p.media.notice(true)
	data, err := p.client.Download(WithMessage(ctx, info, media), withPath(media))
	return data, p.explain(media, err)
}

// DownloadToFile is Download into a file, which is written from its beginning. After an error
// the file is empty. The error can also be that of the file's Seek or Truncate, perhaps
// joined to whatsmeow's.
func (p *Plugin) DownloadToFile(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage, file whatsmeow.File) error {
	if file == nil {
		return fmt.Errorf("%w: DownloadToFile needs a file", ErrInvalidRequest)
	}
	p.media.notice(true)
	// whatsmeow writes where the file stands, so the rest of an earlier try would stay in front
	// of the media.
	if err := rewind(file); err != nil {
		return err
	}
	err := p.explain(media, p.client.DownloadToFile(WithMessage(ctx, info, media), withPath(media), file))
	if err != nil {
		err = errors.Join(err, rewind(file))
	}
	return err
}

func rewind(file whatsmeow.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reupload: going to the beginning of the file: %w", err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("reupload: emptying the file: %w", err)
	}
	return nil
}

// standInPath is the direct path of media that has none: whatsmeow makes no request without. Our
// transport knows it, and answers the request itself.
const standInPath = "/reupload/no-path-yet?ask-the-phone"

var standIn = directPathOf(standInPath)

// A pathless is media that came without a direct path.
type pathless struct{ whatsmeow.DownloadableMessage }

func (m pathless) GetDirectPath() string { return standInPath }

// GetMediaType implements [whatsmeow.MediaTypeable]: the type is that of the media inside.
func (m pathless) GetMediaType() whatsmeow.MediaType {
	return whatsmeow.GetMediaType(m.DownloadableMessage)
}

func lacksPath(media whatsmeow.DownloadableMessage) bool {
	return media != nil && media.GetDirectPath() == ""
}

// withPath gives media without a direct path a stand-in, so that the download gets as far
// as our transport.
func withPath(media whatsmeow.DownloadableMessage) whatsmeow.DownloadableMessage {
	if lacksPath(media) {
		return pathless{media}
	}
	return media
}

// explain gives the error of a download a cause where whatsmeow's has no place for one, and says
// that there was no path.
func (p *Plugin) explain(media whatsmeow.DownloadableMessage, err error) error {
	switch {
	case err == nil:
		return nil
	case p.isClosed() && Cause(err) == nil:
		return &explained{err, ErrClosed}
	case lacksPath(media):
		return &explained{fmt.Errorf("%w (and %w)", whatsmeow.ErrNoURLPresent, err), Cause(err)}
	}
	return err
}

// An explained error is whatsmeow's, with a cause.
type explained struct {
	error
	cause error
}

func (e *explained) Unwrap() error { return e.error }

// Cause tells why a failed download was not healed: one of this package's errors, the context's
// error, one of whatsmeow's connection errors, or nil if reupload had no part in it. The error
// itself stays whatsmeow's, so that errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410)
// holds as before.
func Cause(err error) error {
	var ours *explained
	if errors.As(err, &ours) && ours.cause != nil {
		return ours.cause
	}
	var failed whatsmeow.DownloadHTTPError
	if !errors.As(err, &failed) || failed.Response == nil || failed.Request == nil {
		return nil
	}
	cause, _ := failed.Request.Context().Value(causeKey{}).(error)
	return cause
}

// What a caller says about a download travels in its context.
type (
	messageKey  struct{} // *Entry: which message it is about
	backfillKey struct{}
	silentKey   struct{}
)

// WithMessage tells a client.Download under the returned context which message the media belongs
// to, when the index cannot know: the message came before the plugin, or the bot has it from a
// database of its own. Media can be of any type.
func WithMessage(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) context.Context {
	if info == nil || media == nil {
		return ctx
	}
	return context.WithValue(ctx, messageKey{}, &Entry{
		Request:       NewRequest(info, media),
		FileEncSHA256: bytes.Clone(media.GetFileEncSHA256()),
		Timestamp:     info.Timestamp,
	})
}

// WithRequest is [WithMessage] for callers that have only fields, as from a row of a database of
// their own. The hash is the SHA-256 of the encrypted file, 32 bytes.
func WithRequest(ctx context.Context, req Request, fileEncSHA256 []byte) context.Context {
	return context.WithValue(ctx, messageKey{}, &Entry{Request: req, FileEncSHA256: bytes.Clone(fileEncSHA256)})
}

// WithBackfill makes downloads and requests under the returned context give way to all others, and
// go out at Options.BackfillPace.
func WithBackfill(ctx context.Context) context.Context {
	return context.WithValue(ctx, backfillKey{}, true)
}

// WithoutAsking makes downloads under the returned context use paths that are known, but not ask
// the phone; their cause is [ErrNotAsked]. It is for bots that ask by themselves, and for downloads
// that nobody needs much.
func WithoutAsking(ctx context.Context) context.Context {
	return context.WithValue(ctx, silentKey{}, true)
}

func laneOf(ctx context.Context) lane {
	if ctx.Value(backfillKey{}) != nil {
		return backfill
	}
	return live
}
