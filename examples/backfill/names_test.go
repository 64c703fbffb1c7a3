package main

import (
	"path"
	"strings"
	"testing"
	"time"

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
