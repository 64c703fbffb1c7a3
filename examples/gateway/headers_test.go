package main

import (
	"mime"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

func TestParseChat(t *testing.T) {
	t.Parallel()
	for chat, want := range map[string]string{
		"447700900123@s.whatsapp.net":   "447700900123@s.whatsapp.net",
		"447700900123:3@s.whatsapp.net": "447700900123@s.whatsapp.net",
		"200000000000123@lid":           "200000000000123@lid",
		"120363000000000000@g.us":       "120363000000000000@g.us",
		"4915550001-1600000000@g.us":    "4915550001-1600000000@g.us",
		"status@broadcast":              "status@broadcast",
		"":                              "",
		"somebody":                      "",
		"@s.whatsapp.net":               "",
		"1@example.com":                 "",
		"1 2@s.whatsapp.net":            "",
		"1\x002@s.whatsapp.net":         "",
		"1@s.whatsapp.net/../..":        "",
	} {
		got, ok := parseChat(chat)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: got %s, %v", chat, got, ok)
		}
	}
}

// TestLongHeaders has senders that make up as much as they can.
func TestLongHeaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 50_000)
	for _, c := range []struct{ name, want string }{
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a", 252) + ".pdf", strings.Repeat("a", 251) + ".pdf"},
		{long + ".pdf", long[:250] + ".pdf"}, // not half of a letter
		{"a." + long, "a." + long[:252]},
	} {
		m := &message{media: &waE2E.DocumentMessage{FileName: proto.String(c.name), Mimetype: proto.String("text/plain; a=" + strings.Repeat("b", 50_000))}}
		if got := fileName(m); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		header := make(http.Header)
		setHeaders(header, m)
		for name, values := range header {
			if n := len(values[0]); n > 1000 {
				t.Errorf("%s has %d bytes", name, n)
			}
		}
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"":                            "application/octet-stream",
		"image":                       "application/octet-stream",
		"audio/ogg; codecs=opus":      "audio/ogg; codecs=opus",
		"text/html; *=utf-8''x":       "application/octet-stream", // a parameter without a name
		"image/jpeg\r\nSet-Cookie: a": "application/octet-stream",
	} {
		if got := contentType(&waE2E.DocumentMessage{Mimetype: &said}); got != want {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
}

func TestDisposition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		media media
		want  string
	}{
		{&waE2E.ImageMessage{Mimetype: proto.String("image/jpeg")}, "inline; filename=3EB0.jpg"},
		{&waE2E.ImageMessage{Mimetype: proto.String("IMAGE/SVG+xml")}, "attachment; filename=3EB0"},
		{&waE2E.AudioMessage{Mimetype: proto.String("audio/ogg; codecs=opus")}, "inline; filename=3EB0.ogg"},
		{&waE2E.ImageMessage{Mimetype: proto.String("text/html")}, "attachment; filename=3EB0"},
		{&waE2E.ImageMessage{Mimetype: proto.String("image/jpeg\r\nSet-Cookie: a=b")}, "attachment; filename=3EB0"},
		{&waE2E.DocumentMessage{Mimetype: proto.String("application/pdf"), FileName: proto.String(`C:\a\..\b "c".pdf`)}, `attachment; filename="b \"c\".pdf"`},
		{&waE2E.DocumentMessage{Mimetype: proto.String("application/pdf"), FileName: proto.String("a\r\nb.pdf")}, "attachment; filename=ab.pdf"},
		{&waE2E.DocumentMessage{Mimetype: proto.String("application/pdf"), FileName: proto.String("../..")}, "attachment; filename=3EB0.pdf"},
		{&waE2E.DocumentMessage{Mimetype: proto.String("application/pdf")}, "attachment; filename=3EB0.pdf"},
		{&waE2E.DocumentMessage{}, "attachment; filename=3EB0"},
	} {
		if got := disposition(&message{info: types.MessageInfo{ID: "3EB0"}, media: c.media}); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// FuzzHeaders has types, names and message ids that senders make up. Whatever they are, browsers
// get a type and a plain name, and show nothing but pictures, videos and audio.
func FuzzHeaders(f *testing.F) {
	f.Add("image/jpeg", "", "3EB0")
	f.Add("IMAGE/SVG+xml", "", "../../x")
	f.Add("text/html; charset=utf-8", "/tmp/../B\u00fccher \"1\".html", "")
	f.Add("image/jpeg\r\nSet-Cookie: a=b", `C:\a\..\b "c".pdf`, "\u202egnp.exe")
	f.Add("video/mp4; a*0=b; a*1=c", "a\x00\xff/..", "/")
	f.Add("image/jpeg; *0=x", "..", ".")
	f.Fuzz(func(t *testing.T, mimetype, name, id string) {
		for _, m := range []media{
			&waE2E.DocumentMessage{Mimetype: &mimetype, FileName: &name},
			&waE2E.ImageMessage{Mimetype: &mimetype},
		} {
			header := make(http.Header)
			setHeaders(header, &message{info: types.MessageInfo{ID: id}, media: m})
			for key := range header {
				if value := header.Get(key); value == "" || strings.IndexFunc(value, unicode.IsControl) >= 0 {
					t.Errorf("%s is %q", key, value)
				}
			}
			shown, _, err := mime.ParseMediaType(header.Get("Content-Type"))
			if err != nil {
				t.Errorf("the type is %q: %v", header.Get("Content-Type"), err)
			}
			how, params, err := mime.ParseMediaType(header.Get("Content-Disposition"))
			kind, rest, _ := strings.Cut(shown, "/")
			if err != nil || how == "inline" && (!slices.Contains([]string{"image", "video", "audio"}, kind) || strings.HasPrefix(rest, "svg")) {
				t.Errorf("a %q is %q: %v", shown, header.Get("Content-Disposition"), err)
			}
			if got := params["filename"]; got == "" || strings.ContainsAny(got, `/\`) || strings.HasPrefix(got, ".") || !utf8.ValidString(got) {
				t.Errorf("the name is %q", got)
			}
		}
	})
}
