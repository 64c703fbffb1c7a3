package reupload

import "errors"

// The phone's answers. [Result.Err] returns one of them, perhaps wrapped.
var (
	// ErrNotFound means that the phone has lost the file too. It is final until the file is restored on the phone.
	ErrNotFound = errors.New("reupload: the phone no longer has the file; only its sender can bring it back")
	// ErrGeneral means that the phone failed for a reason that it does not tell. Asking again later may help.
	ErrGeneral = errors.New("reupload: the phone could not upload the file again; try again later")
	// ErrDecryption means that phone and bot do not agree on the media key: either the phone could not read the request,
	// or its answer could not be read here. It is final; messages from before an account's LID migration are known for it.
	ErrDecryption = errors.New("reupload: phone and bot disagree about the media key; the file cannot be requested")
)

// Why there is no answer.
var (
	// ErrTimeout means that the phone did not answer in Options.Timeout. It is probably offline; an error that is also
	// whatsmeow.ErrNotConnected means that the bot was. A late answer is used all the same: the next download finds it.
	ErrTimeout = errors.New("reupload: the phone did not answer in time; try again later, a late answer is used")
	// ErrNewsletter means that the media is from a newsletter. Such media has no media key, so that the phone cannot be
	// asked for it. Nothing was sent.
	ErrNewsletter = errors.New("reupload: newsletter media has no media key and cannot be requested")
	// ErrInvalidRequest wraps what is wrong with a [Request]. Nothing was sent.
	ErrInvalidRequest = errors.New("reupload: invalid request")
	// ErrRejected means that the server refused the receipt, so that the phone never saw it.
	ErrRejected = errors.New("reupload: the server refused the request; check its chat and participant")
	// ErrInvalidAnswer means that the answer was authentic and yet makes no sense: it names another message, or reports
	// success without a path that can be used, or with one under which there is nothing, or another file.
	ErrInvalidAnswer = errors.New("reupload: the phone's answer makes no sense; try again later")
	// ErrUnknownMessage means that a download failed whose file belongs to no message that the index knows.
	// Use [WithMessage], [Plugin.Download] or [Plugin.Remember] to name the message.
	ErrUnknownMessage = errors.New("reupload: no message is known for this file; name it with WithMessage")
	// ErrHandlerBlocked means that the call was made inside an event handler while the answer can only arrive after that
	// handler has returned. The request is on its way, and the next download finds its answer. Call Register before
	// Connect, or download in a goroutine.
	ErrHandlerBlocked = errors.New("reupload: the answer cannot arrive while this event handler runs; the request was sent, download again after it has returned")
	// ErrReplayFailed wraps why the download from the new path failed. The path is remembered: download again.
	ErrReplayFailed = errors.New("reupload: the file is there again, but its download failed; download again")
	// ErrAlreadyRegistered means that the client has a plugin already.
	ErrAlreadyRegistered = errors.New("reupload: already registered on this client; use the first Plugin or Close it")
	// ErrClosed means that the plugin was closed.
	ErrClosed = errors.New("reupload: the plugin is closed; register it anew")
)
