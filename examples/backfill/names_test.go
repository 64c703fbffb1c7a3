package main

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whatsmeow-plugins/reupload"
)

func TestFolderOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, number, want string }{
		{"Anna", "447700900101", "Anna (447700900101)"},
		{"", "447700900101", "447700900101"},
		{"447700900101", "447700900101", "447700900101"},
		{"Work / home: 50%?", "1", "Work home 50% (1)"},
		{"../../etc", "1", "etc (1)"},
		{"..", "1", "1"},
		{"report", "1", "report (1)"}, // the report's folder is another one
		{"CON", "1", "CON (1)"},       // which Windows cannot have alone
		{"a\u202egnp.exe\x00\n", "1", "agnp.exe (1)"},
		{"Family 🏖", "1", "Family 🏖 (1)"},
		{strings.Repeat("ü", 200), "1", strings.Repeat("ü", 40) + " (1)"},
		{"", "status", "Status"},
	} {
		if got := folderOf(c.name, c.number); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.name, c.number, got, c.want)
		}
	}
}

func TestPathOf(t *testing.T) {
	t.Parallel()
	const sum = "1122334455667788"
	checksum := append([]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, make([]byte, 24)...)
	sent := time.Date(2024, 2, 29, 23, 59, 58, 0, time.Local)
	for _, c := range []struct {
		name, mime string
		kind       reupload.Kind
		want       string
	}{
		{"", "image/jpeg", reupload.KindImage, "2024-02-29 23.59.58 image " + sum + ".jpg"},
		{"", "audio/ogg; codecs=opus", reupload.KindAudio, "2024-02-29 23.59.58 audio " + sum + ".ogg"},
		{"Offer.pdf", "application/pdf", reupload.KindDocument, "2024-02-29 23.59.58 Offer " + sum + ".pdf"},
		{"Offer v1.2", "application/pdf", reupload.KindDocument, "2024-02-29 23.59.58 Offer v1.2 " + sum + ".pdf"},
		{"../../.bashrc", "", reupload.KindDocument, "2024-02-29 23.59.58 bashrc " + sum + ".bin"},
		{`C:\Windows\evil.exe`, "application/x-msdownload", reupload.KindDocument, "2024-02-29 23.59.58 evil.exe " + sum + ".bin"},
		{"page.html", "text/html", reupload.KindDocument, "2024-02-29 23.59.58 page.html " + sum + ".bin"},
		{"table.CSV", "application/octet-stream", reupload.KindDocument, "2024-02-29 23.59.58 table " + sum + ".csv"},
		{"/", "", reupload.KindDocument, "2024-02-29 23.59.58 document " + sum + ".bin"},
	} {
		f := file{name: c.name, mime: c.mime, kind: c.kind, sent: sent, checksum: checksum}
		if got, want := f.pathOf("Anna (1)"), path.Join("Anna (1)", "2024-02", c.want); got != want {
			t.Errorf("%q, %q: %q, want %q", c.name, c.mime, got, want)
		}
	}
	undated := file{kind: reupload.KindVideo, mime: "video/mp4", checksum: checksum}
	if got := undated.pathOf("Anna (1)"); got != "Anna (1)/undated/video "+sum+".mp4" {
		t.Errorf("without a time: %q", got)
	}
}

// FuzzNames has names of chats and files, and types, that senders make up. Whatever they are, a
// file stays in its folder, has a name that every file system can have, and is no program.
func FuzzNames(f *testing.F) {
	f.Add("Anna", "447700900101", "Offer.pdf", "application/pdf", int64(1709251198))
	f.Add("../..", "1", "../../.bashrc", "", int64(0))
	f.Add("CON", "status", `C:\Windows\evil.exe`, "application/x-msdownload; x=y", int64(-1))
	f.Add("a\u202egnp.exe\x00\n", "\xff", strings.Repeat("ü", 200)+".html", "text/html", int64(1)<<62)
	f.Add(".", "..", "/", "image/png\r\n", int64(-1)<<62)
	f.Fuzz(func(t *testing.T, chat, number, name, mimetype string, sent int64) {
		folder := folderOf(chat, number)
		if folder == "" {
			t.Skip("a chat without a number, which no address lacks")
		}
		if strings.EqualFold(folder, reportFolder) && !strings.EqualFold(clean(number), reportFolder) {
			t.Errorf("%q, %q has the folder of the report", chat, number)
		}
		file := file{name: name, mime: mimetype, kind: reupload.KindDocument, sent: time.Unix(sent, 0), checksum: make([]byte, 32)}
		got := file.pathOf(folder)
		parts := strings.Split(got, "/")
		if !filepath.IsLocal(got) || len(parts) != 3 || parts[0] != folder || path.Clean(got) != got {
			t.Fatalf("%q, %q, %q: the path is %q", chat, number, name, got)
		}
		for _, part := range parts {
			if len(part) > 255 || !utf8.ValidString(part) || strings.ContainsAny(part, "<>:\"/\\|?*\u202e") || strings.IndexFunc(part, unicode.IsControl) >= 0 ||
				strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") || strings.HasPrefix(part, " ") {
				t.Errorf("%q, %q, %q: a name is %q", chat, number, name, part)
			}
		}
		ext := path.Ext(got)
		if ext != ".bin" && !slices.Contains(knownExtensions, ext) || !strings.HasSuffix(got, " "+strings.Repeat("0", 16)+ext) {
			t.Errorf("%q, %q: the path is %q", name, mimetype, got)
		}
	})
}
