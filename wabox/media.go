package wabox

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"
)

// Media is a file on the CDN, and what a message says about it. Do not change it: messages and the
// phone share it.
type Media struct {
	Plaintext     []byte
	MediaKey      []byte // nil for newsletter media, which is not encrypted
	FileSHA256    []byte
	FileEncSHA256 []byte // nil for newsletter media
	DirectPath    string // the path of the first upload, with its query
	Length        int    // of Plaintext, in bytes
	Type          whatsmeow.MediaType

	blob *blob // nil if the CDN never had the file
}

// Upload encrypts a file as a client does and puts it on the CDN, under a fresh path. The plaintext
// must not be changed afterwards. It panics if t is not one of whatsmeow's media types.
func (b *Box) Upload(plaintext []byte, t whatsmeow.MediaType) *Media {
	m := newMedia(plaintext, t)
	m.MediaKey = randomBytes(32)
	keys := hkdfutil.SHA256(m.MediaKey, nil, []byte(t), 112)
	iv, cipherKey, macKey := keys[:16], keys[16:48], keys[48:80]
	// Encrypt may pad its argument in place, if that has room.
	ciphertext, err := cbcutil.Encrypt(cipherKey, iv, slices.Clip(m.Plaintext))
	if err != nil {
		panic(err) // the key has the right length
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write(iv)
	mac.Write(ciphertext)
	data := append(ciphertext, mac.Sum(nil)[:10]...)
	encSHA256 := sha256.Sum256(data)
	m.FileEncSHA256 = encSHA256[:]
	b.cdn.add(m, data)
	return m
}

// UploadPlain puts a file on the CDN as newsletters have it: not encrypted, without a media key.
func (b *Box) UploadPlain(plaintext []byte, t whatsmeow.MediaType) *Media {
	m := newMedia(plaintext, t)
	b.cdn.add(m, m.Plaintext)
	return m
}

func newMedia(plaintext []byte, t whatsmeow.MediaType) *Media {
	if _, ok := pathPrefixes[t]; !ok {
		panic(fmt.Sprintf("wabox: unknown media type %q", t))
	}
	fileSHA256 := sha256.Sum256(plaintext)
	return &Media{Plaintext: plaintext, FileSHA256: fileSHA256[:], Length: len(plaintext), Type: t}
}

// Reupload puts the same ciphertext under a fresh path, as a phone does, and returns that path with
// its query. It returns "" if the CDN never had the file.
func (b *Box) Reupload(m *Media) string {
	if m.blob == nil {
		return ""
	}
	return b.cdn.link(m.blob, m.Type)
}

// Path returns the direct path without its query.
func (m *Media) Path() string { return pathOf(m.DirectPath) }

// URL returns the file's address on WhatsApp's main media host.
func (m *Media) URL() string { return "https://" + defaultMediaHost + m.DirectPath + "&mms3=true" }

// Image returns a message with the file as its image.
func (m *Media) Image() *waE2E.ImageMessage {
	return &waE2E.ImageMessage{
		URL: proto.String(m.URL()), DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey,
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		Mimetype: proto.String("image/jpeg"), MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// Video returns a message with the file as its video.
func (m *Media) Video() *waE2E.VideoMessage {
	return &waE2E.VideoMessage{
		URL: proto.String(m.URL()), DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey,
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		Mimetype: proto.String("video/mp4"), MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// Audio returns a message with the file as its audio.
func (m *Media) Audio() *waE2E.AudioMessage {
	return &waE2E.AudioMessage{
		URL: proto.String(m.URL()), DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey,
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		Mimetype: proto.String("audio/ogg; codecs=opus"), MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// Document returns a message with the file as its document.
func (m *Media) Document() *waE2E.DocumentMessage {
	return &waE2E.DocumentMessage{
		URL: proto.String(m.URL()), DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey,
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		Mimetype: proto.String("application/pdf"), FileName: proto.String("document.pdf"),
		MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// Sticker returns a message with the file as its sticker. The file's type is whatsmeow.MediaImage,
// as that of a picture.
func (m *Media) Sticker() *waE2E.StickerMessage {
	return &waE2E.StickerMessage{
		URL: proto.String(m.URL()), DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey,
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		Mimetype: proto.String("image/webp"), MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// pathPrefixes are the directories in which WhatsApp's CDN has the files of each type.
var pathPrefixes = map[whatsmeow.MediaType]string{
	whatsmeow.MediaImage:         "/v/t62.7118-24/",
	whatsmeow.MediaVideo:         "/v/t62.7161-24/",
	whatsmeow.MediaAudio:         "/v/t62.7117-24/",
	whatsmeow.MediaDocument:      "/v/t62.7119-24/",
	whatsmeow.MediaHistory:       "/v/t62.36144-24/",
	whatsmeow.MediaAppState:      "/v/t62.36145-24/",
	whatsmeow.MediaStickerPack:   "/v/t62.15575-24/",
	whatsmeow.MediaLinkThumbnail: "/v/t62.36146-24/",
}

// linkLife is how long a path is good for: the time from an upload to the "oe" in its query.
const linkLife = 30 * 24 * time.Hour

// newDirectPath makes a path like those of the real CDN, signed for some weeks.
func newDirectPath(t whatsmeow.MediaType) string {
	return fmt.Sprintf("%s%d_%d_n.enc?ccb=11-4&oh=01_%s&oe=%X&_nc_sid=5e03e0",
		cmp.Or(pathPrefixes[t], pathPrefixes[whatsmeow.MediaDocument]), mathrand.Int64N(1e15), mathrand.Int64N(1e18),
		base64.RawURLEncoding.EncodeToString(randomBytes(33)), time.Now().Add(linkLife).Unix())
}

func pathOf(directPath string) string {
	path, _, _ := strings.Cut(directPath, "?")
	return path
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
