package reupload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
)

// errNotLoggedIn says what to do, which whatsmeow's own words do not.
var errNotLoggedIn = fmt.Errorf("reupload: the client is not logged in; link it, and connect it: %w", whatsmeow.ErrNotLoggedIn)

// The phone's answers. [Result.Err] returns one of them, perhaps wrapped.
var (
	// ErrNotFound means that the phone has lost the file too. It is final until the file is
	// restored on the phone.
	ErrNotFound = errors.New("reupload: the phone no longer has the file; only its sender can bring it back")
	// ErrGeneral means that the phone failed for a reason that it does not tell. Asking again
	// later may help.
	ErrGeneral = errors.New("reupload: the phone could not upload the file again; try again later")
	// ErrDecryption means that phone and bot do not agree on the media key: either the phone could
	// not read the request, or its answer could not be read here. It is final, unless the phone has
	// said so unsealed: then it is asked again after Options.SilencePause. Messages from before an
	// account's LID migration are known for it.
	ErrDecryption = errors.New("reupload: phone and bot disagree about the media key; the file cannot be requested")
)

// Why there is no answer.
var (
	// ErrTimeout means that the phone did not answer in Options.Timeout, or not while an event
	// handler could wait for it. It is probably offline; an error that is also
	// whatsmeow.ErrNotConnected means that the bot was. A late answer is used all the same: the
	// next download finds it.
	ErrTimeout = errors.New("reupload: the phone did not answer in time; try again later, a late answer is used")
	// ErrPhoneSilent means that the phone has not answered anything for a while, so that it
	// was not asked for this. It wraps ErrTimeout. The plugin tries once a minute whether the
	// phone is back.
	ErrPhoneSilent = fmt.Errorf("reupload: the phone is silent, so that it was not asked; try again in a few minutes: %w", ErrTimeout)
	// ErrServerSilent means that the server has not acknowledged the request in Options.Timeout. It
	// wraps ErrTimeout.
	ErrServerSilent = fmt.Errorf("%w (the server has not acknowledged the request)", ErrTimeout)
	// ErrBusy means that the request was not sent, because its turn did not come within
	// Options.Timeout: Options.MaxInFlight others were waiting for the phone, or Options.Pace let
	// no more go out.
	ErrBusy = errors.New("reupload: too many requests wait for the phone, so that this one was not sent; download again later")
	// ErrNotAsked means that the phone was not asked because of [WithoutAsking], or because the bot
	// asks by itself.
	ErrNotAsked = errors.New("reupload: the phone was not asked")
	// ErrNewsletter means that the media is from a newsletter. Such media has no media key, so that
	// the phone cannot be asked for it. Nothing was sent.
	ErrNewsletter = errors.New("reupload: newsletter media has no media key and cannot be requested")
	// ErrInvalidRequest wraps what is wrong with a [Request]. Nothing was sent.
	ErrInvalidRequest = errors.New("reupload: invalid request")
	// ErrRejected means that the server refused the receipt, so that the phone never saw it.
	ErrRejected = errors.New("reupload: the server refused the request; check its chat and participant")
	// ErrInvalidAnswer means that the answer was authentic and yet makes no sense: it names another
	// message, or reports success without a path that can be used, or with one under which there is
	// nothing, or another file.
	ErrInvalidAnswer = errors.New("reupload: the phone's answer makes no sense; try again later")
	// ErrUnknownMessage means that a download failed whose file belongs to no message that the
	// index knows. Use [WithMessage], [Plugin.Download], [Plugin.Remember] or Options.Lookup to
	// name the message.
	ErrUnknownMessage = errors.New("reupload: no message is known for this file; name it with WithMessage or Options.Lookup")
	// ErrIndexFailed wraps why Options.Index could not be asked which message a file belongs to.
	ErrIndexFailed = fmt.Errorf("reupload: the index failed: %w", ErrUnknownMessage)
	// ErrLookupFailed wraps why Options.Lookup could not be asked which message a file belongs to,
	// or what is wrong with what it has returned.
	ErrLookupFailed = fmt.Errorf("reupload: Options.Lookup failed: %w", ErrUnknownMessage)
	// ErrStrippedPath means that the direct path of a download has lost its query, without which
	// the CDN gives nothing out (the parameters oh and oe). The bot must store direct paths whole.
	// It wraps why the file could not be had otherwise.
	ErrStrippedPath = errors.New("reupload: the direct path has lost its query (oh, oe); store it whole")
	// ErrForbidden means that the CDN has refused a URL for another reason than its age. The phone
	// was not asked, since a new upload would not help against what is wrong.
	ErrForbidden = errors.New("reupload: the CDN refused the URL, and not for its age; the phone was not asked, as that would not help")
	// ErrHandlerBlocked means that the call was made inside an event handler while the answer can
	// only arrive after that handler has returned. The request is on its way, and the next download
	// finds its answer. Call Register before Connect, or download in a goroutine.
	ErrHandlerBlocked = errors.New("reupload: the answer cannot arrive while this event handler runs; the request was sent, download again after it has returned")
	// ErrHistoryAsked means that a part of the account's history had expired. The phone was asked
	// for it and sends it again, as a history sync of its own: this download stays without.
	ErrHistoryAsked = errors.New("reupload: this part of the history had expired; the phone was asked for it, and it comes as an event of its own")
	// ErrReplayFailed wraps why the download from the new path failed. The path is
	// remembered: download again.
	ErrReplayFailed = errors.New("reupload: the file is there again, but its download failed; download again")
	// ErrAlreadyRegistered means that the client has a plugin already.
	ErrAlreadyRegistered = errors.New("reupload: already registered on this client; use the first Plugin or Close it")
	// ErrClosed means that the plugin was closed.
	ErrClosed = errors.New("reupload: the plugin is closed; register it again")
)

// A RejectedError says with which code the server has refused a request. It is an ErrRejected.
type RejectedError struct{ Code int }

// Error implements error.
func (e *RejectedError) Error() string { return fmt.Sprintf("%v: error %d", ErrRejected, e.Code) }

// Is reports whether the target is ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// A PausedError says until when a file is not asked for again by itself. It wraps what the phone,
// or its silence, had said.
type PausedError struct {
	Until time.Time // at the latest: after silence, it can end when the phone is heard
	cause error
}

// Error implements error.
func (e *PausedError) Error() string {
	return fmt.Sprintf("%v (remembered; not asked again by itself until %s)", e.cause, e.Until.Format(time.RFC3339))
}

// Unwrap returns what the phone had said.
func (e *PausedError) Unwrap() error { return e.cause }

// labels are the short names of causes. An error that wraps two of them has the label of the first.
var labels = [...]struct {
	cause error
	label string
}{
	{ErrStrippedPath, "stripped_path"},
	{ErrHistoryAsked, "history_asked"},
	{ErrNotFound, "not_found"},
	{ErrDecryption, "decryption"},
	{ErrGeneral, "general"},
	{ErrPhoneSilent, "phone_silent"},
	{ErrServerSilent, "server_silent"},
	{whatsmeow.ErrNotConnected, "not_connected"},
	{whatsmeow.ErrNotLoggedIn, "not_logged_in"},
	{ErrTimeout, "timeout"},
	{ErrBusy, "busy"},
	{ErrNotAsked, "not_asked"},
	{ErrRejected, "rejected"},
	{ErrInvalidAnswer, "invalid_answer"},
	{ErrIndexFailed, "index_failed"},
	{ErrLookupFailed, "lookup_failed"},
	{ErrUnknownMessage, "unknown_message"},
	{ErrForbidden, "forbidden"},
	{ErrHandlerBlocked, "handler_blocked"},
	{ErrReplayFailed, "replay_failed"},
	{ErrNewsletter, "newsletter"},
	{ErrInvalidRequest, "invalid_request"},
	{ErrClosed, "closed"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "deadline_exceeded"},
}

// unlabelled is the label of every other cause.
const unlabelled = "other"

// Label returns a short name of a cause, for metrics, logs and HTTP: "not_found",
// "timeout", "phone_silent" and so on. It is "" for nil and "other" for an error that this
// package does not know.
func Label(cause error) string {
	if cause == nil {
		return ""
	}
	for i := range labels {
		if errors.Is(cause, labels[i].cause) {
			return labels[i].label
		}
	}
	return unlabelled
}
