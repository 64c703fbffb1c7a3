package simulation

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A file is the world's knowledge of one file: what is in it, and where it is.
type file struct {
	n     int
	media *wabox.Media
	kind  fileKind
	own   *upload // the first one
	large bool
}

// comparedWhileItComes is a size at which the plugin does not compare a file before the caller gets
// it.
const comparedWhileItComes = 9 << 20

// A fileKind is how a message carries a file.
type fileKind int

const (
	image fileKind = iota
	video
	audio
	document
	sticker
	fileKinds
)

var mediaTypes = [fileKinds]whatsmeow.MediaType{
	whatsmeow.MediaImage, whatsmeow.MediaVideo, whatsmeow.MediaAudio, whatsmeow.MediaDocument, whatsmeow.MediaImage,
}

// plaintextMark begins each file. No log may contain it.
const plaintextMark = "the plaintext of file "

// newFile uploads a file as a person does.
func (w *World) newFile(t *Throw) *file {
	f := &file{n: int(w.fileCount.Add(1)), kind: fileKind(t.IntN(int(fileKinds)))}
	plaintext := []byte(fmt.Sprint(plaintextMark, f.n, strings.Repeat(".", 40+t.IntN(400))))
	if f.large = w.may(cdnLarge) != "" && w.dice.For("large", f.n).Chance(0.003); f.large {
		plaintext = append(plaintext, make([]byte, comparedWhileItComes)...)
	}
	f.media = w.box.Upload(plaintext, mediaTypes[f.kind])
	w.secrets.add(f.media.MediaKey)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = append(w.files, f)
	f.own = w.keep(f, f.media.DirectPath, false)
	return f
}

// message returns a message with the file, or one that claims to have it.
func (k fileKind) message(m *wabox.Media) *waE2E.Message {
	switch k {
	case video:
		return &waE2E.Message{VideoMessage: m.Video()}
	case audio:
		return &waE2E.Message{AudioMessage: m.Audio()}
	case document:
		return &waE2E.Message{DocumentMessage: m.Document()}
	case sticker:
		return &waE2E.Message{StickerMessage: m.Sticker()}
	}
	return &waE2E.Message{ImageMessage: m.Image()}
}

// An upload is one path of a file on the CDN.
type upload struct {
	*file
	path  string // with its query
	at    time.Time
	dies  time.Time
	fault Kind // "" if it is a good one
	hits  int
	again bool // by a phone
}

// keep notes an upload. It needs w.mu.
func (w *World) keep(f *file, path string, again bool) *upload {
	u := &upload{file: f, path: path, at: time.Now(), again: again}
	t := w.dice.For("upload", f.n, w.uploadsOf[f])
	w.uploadsOf[f]++
	u.dies = u.at.Add(t.Between(w.Life, 2*w.Life))
	if expiry := expiryOf(path); expiry.Before(u.dies) {
		u.dies = expiry
	}
	if t.Chance(w.CDN) {
		kinds := []Kind{cdnFails, cdnBusy, cdnStalls, cdnRedirect, cdnCuts, cdnOther, cdnForbids}
		if again {
			kinds = append(kinds, cdnEmpty, cdnLate, cdnLate, cdnEmpty)
		}
		u.fault = w.may(pick(t, kinds...))
	}
	w.uploads[bare(path)] = u
	return u
}

// expiryOf returns until when a direct path is signed, after which the box turns it down.
func expiryOf(path string) time.Time {
	_, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	seconds, err := strconv.ParseInt(values.Get("oe"), 16, 64)
	if err != nil {
		panic(err)
	}
	return time.Unix(seconds, 0)
}

// bare returns a direct path without its query.
func bare(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// A message is the world's knowledge of one message with a file, genuine or not.
type message struct {
	n    int
	id   types.MessageID
	chat *chat
	from types.JID // as it came
	own  bool
	at   time.Time

	media *wabox.Media // what it says of its file
	kind  fileKind
	file  *file // whose hash it has, or nil
	// junk is set if the phone cannot upload a file for the message: another key, or never sent.
	junk string
	// envelope is set for an edit: the phone has no message with this id.
	envelope bool
	oddRow   bool // the plugin was given it as a database has it
	oddNames bool // it came with a name that is not the one on the wire
}

// is reports whether a request can be about the message.
func (m *message) is(key []byte) bool { return string(m.media.MediaKey) == string(key) }

func (m *message) String() string {
	s := fmt.Sprintf("message %d (%s) in %s from %s", m.n, m.id, m.chat.jid, m.from)
	if m.file != nil {
		s += fmt.Sprintf(" with file %d", m.file.n)
	}
	if m.junk != "" {
		s += ", which is junk: " + m.junk
	}
	return s
}

// A mail is a message as one bot has it.
type mail struct {
	*message
	bot    *bot
	info   types.MessageInfo
	media  whatsmeow.DownloadableMessage
	came   time.Time
	memory int // of the bot, in which the plugin has seen it; 0 if it has not
	stored int // World.stored when it came
	life   int // of the bot, in which it came
	how    string
	given  time.Time // when the bot has named it to the plugin last

	// The phone's answers, as far as the bot can know them.
	trouble time.Time // until when it may rest, as it was asked and did not answer well
	refused time.Time // when it last said, sealed, that it has lost the file
}

// name returns a mail's message as a bot with a database knows it.
func (m *mail) request() reupload.Request { return reupload.NewRequest(&m.info, m.media) }

// key names a message in the way in which other messages refer to it.
func (m *message) key() *waCommon.MessageKey {
	key := &waCommon.MessageKey{ID: proto.String(m.id), FromMe: proto.Bool(m.own), RemoteJID: proto.String(m.chat.jid.String())}
	if m.chat.isGroup() || m.chat.jid.Server == types.BroadcastServer {
		key.Participant = proto.String(m.from.ToNonAD().String())
	}
	return key
}

// content returns the part of a message that describes its file.
func (m *message) content() *waE2E.Message { return m.kind.message(m.media) }
