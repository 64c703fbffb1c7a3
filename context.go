package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// What a caller says about a download travels in its context.
type (
	messageKey  struct{} // *Entry: which message it is about
	backfillKey struct{}
	silentKey   struct{}
)

var errWithoutAsking = fmt.Errorf("%w, as WithoutAsking says", ErrNotAsked)

// sayings are what a caller says about a download.
type sayings struct {
	named *Entry // which message it is about; nil if the caller does not say
	lane  lane
	quiet error // ErrNotAsked if the phone must not be asked
}

func sayingsOf(ctx context.Context) (s sayings) {
	s.named, _ = ctx.Value(messageKey{}).(*Entry)
	s.lane = laneOf(ctx)
	if ctx.Value(silentKey{}) != nil {
		s.quiet = errWithoutAsking
	}
	return s
}

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
		CameWith:      pathIn(media),
	})
}

// WithRequest is [WithMessage] for callers that have only fields, as from a row of a database of
// their own. The hash is the SHA-256 of the encrypted file, 32 bytes.
func WithRequest(ctx context.Context, req Request, fileEncSHA256 []byte) context.Context {
	return context.WithValue(ctx, messageKey{}, &Entry{Request: req, FileEncSHA256: bytes.Clone(fileEncSHA256)})
}

// WithBackfill makes downloads and requests under the returned context give way to all others, and
// go out at Options.Pace.
func WithBackfill(ctx context.Context) context.Context {
	return context.WithValue(ctx, backfillKey{}, true)
}

// WithoutAsking makes downloads under the returned context use paths that are known, but not ask
// the phone; their cause is [ErrNotAsked]. It is for bots that ask by themselves, and for downloads
// that matter little.
func WithoutAsking(ctx context.Context) context.Context {
	return context.WithValue(ctx, silentKey{}, true)
}

func laneOf(ctx context.Context) lane {
	if ctx.Value(backfillKey{}) != nil {
		return backfill
	}
	return live
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

// The key under which the request of a response that was not healed holds the cause. whatsmeow's
// error holds the response.
type causeKey struct{}

// withCause returns the response that the caller of a request would have got without us, with the
// reason why the download was not healed.
func withCause(resp *http.Response, req *http.Request, cause error) *http.Response {
	resp.Request = req.WithContext(context.WithValue(req.Context(), causeKey{}, cause))
	return resp
}
