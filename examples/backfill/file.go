package main

import (
	"fmt"
	"io"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// The states of a file.
const (
	stateNew     = "new"     // to be fetched from where it costs the phone nothing
	stateExpired = "expired" // to be fetched from the phone
	stateFailed  = "failed"  // to be tried again when its time has come
	stateLost    = "lost"    // not to be tried again by itself
	stateSaved   = "saved"
)

// A file is one file of one message: a row of the catalog. It is what whatsmeow downloads.
type file struct {
	id        int64
	request   reupload.Request
	sent      time.Time // zero if it is not known
	kind      reupload.Kind
	mediaType whatsmeow.MediaType
	mime      string
	name      string // that the sender gave it
	size      int64  // that the sender says
	isStatus  bool

	path          string
	checksum      []byte // SHA-256
	encFileSHA256 []byte

	state    string
	cause    string // why it is not saved yet: a label of reupload's, or one of ours
	tries    int
	next     time.Time // when it is tried again
	insists  bool      // -retry: the phone is asked even if it has refused a while ago
	saved    string    // the path under the directory for media, with slashes
	takenFor lane
}

// whatsmeow downloads anything that has these methods.
var (
	_ whatsmeow.DownloadableMessage = (*file)(nil)
	_ whatsmeow.MediaTypeable       = (*file)(nil)
)

func (f *file) GetDirectPath() string             { return f.path }
func (f *file) GetMediaKey() []byte               { return f.request.MediaKey }
func (f *file) GetFileSHA256() []byte             { return f.checksum }
func (f *file) GetFileEncSHA256() []byte          { return f.encFileSHA256 }
func (f *file) GetMediaType() whatsmeow.MediaType { return f.mediaType }
func (f *file) isNewsletter() bool                { return f.request.Chat.Server == types.NewsletterServer }
func (f *file) String() string                    { return fmt.Sprintf("%s of %v", f.kind, f.request) }
func (f *file) Format(s fmt.State, _ rune)        { _, _ = io.WriteString(s, f.String()) } // the key is a secret

// info describes the message of a file.
func (f *file) info() *types.MessageInfo {
	return &types.MessageInfo{
		MessageSource: types.MessageSource{
			Chat: f.request.Chat, Sender: f.request.Participant, IsFromMe: f.request.IsFromMe,
			IsGroup: f.request.Chat.Server == types.GroupServer,
		},
		ID:        f.request.MessageID,
		Timestamp: f.sent,
	}
}

// newFile returns the row for a file of a message. It is not ok if the message has no checksum for
// it, without which nothing can be saved.
func newFile(media reupload.Media, sent time.Time) (f *file, ok bool) {
	if sent.Unix() <= 0 { // what whatsmeow makes of a missing time in a history
		sent = time.Time{}
	}
	f = &file{
		request: media.Request, sent: sent, kind: media.Kind, mediaType: whatsmeow.GetMediaType(media.Message),
		mime: media.MIMEType, name: media.Name, size: int64(min(media.Size, 1<<50)), isStatus: media.IsStatus,
		path: media.Message.GetDirectPath(), checksum: media.Message.GetFileSHA256(), encFileSHA256: media.Message.GetFileEncSHA256(),
		state: stateNew,
	}
	return f, len(f.checksum) == checksumSize
}

const checksumSize = 32
