package main

import (
	"cmp"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// setHeaders says what the file of a message is, as far as that is known without the file.
func setHeaders(header http.Header, m *message) {
	header.Set("Cache-Control", "private, max-age=3600")
	header.Set("Content-Type", contentType(m.media))
	header.Set("Content-Disposition", disposition(m))
	if etag := etagOf(m); etag != "" {
		header.Set("ETag", etag)
	}
	// The file is from a stranger: no browser is to take it for a page of the gateway.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
}

// etagOf returns the SHA-256 of a file, which each download is checked against, or "" for a
// message without one.
func etagOf(m *message) string {
	if _, ok := keyOf(m.media); !ok {
		return ""
	}
	return strconv.Quote(hex.EncodeToString(m.media.GetFileSHA256()))
}

// hasAlready reports whether the caller has the file already, so that it need not be fetched.
func hasAlready(r *http.Request, etag string) bool {
	if etag == "" {
		return false
	}
	for _, list := range r.Header.Values("If-None-Match") {
		for known := range strings.SplitSeq(list, ",") {
			if strings.TrimPrefix(strings.TrimSpace(known), "W/") == etag {
				return true
			}
		}
	}
	return false
}

// longest bounds in bytes what a sender can make up for a header: some callers and proxies take a
// few kilobytes for all headers, and a name can be three times as long in one. No file system takes
// longer names.
const longest = 255

// contentType returns the type that the message has for its file.
func contentType(m media) string {
	base, params, err := mime.ParseMediaType(m.GetMimetype())
	if err != nil || !strings.Contains(base, "/") || len(m.GetMimetype()) > longest {
		return "application/octet-stream"
	}
	// A parameter without a name can be read, and not be written.
	return cmp.Or(mime.FormatMediaType(base, params), "application/octet-stream")
}

// disposition lets browsers show pictures, videos and audio, and download everything else. SVG
// is a program.
func disposition(m *message) string {
	how, base := "attachment", strings.ToLower(contentType(m.media))
	kind, _, _ := strings.Cut(base, "/")
	if (kind == "image" || kind == "video" || kind == "audio") && !strings.HasPrefix(base, "image/svg") {
		how = "inline"
	}
	// FormatMediaType encodes whatever is in the name, and returns "" for what it cannot.
	if formatted := mime.FormatMediaType(how, map[string]string{"filename": fileName(m)}); formatted != "" {
		return formatted
	}
	return how
}

// fileName returns the name that a document has, without directories. Without one it returns the
// message's id, which its sender has chosen as well, with an extension.
func fileName(m *message) string {
	if document, ok := m.media.(interface{ GetFileName() string }); ok {
		if name := plainName(document.GetFileName()); name != "" {
			return name
		}
	}
	return cmp.Or(plainName(m.info.ID), "file") + extensions[strings.SplitN(contentType(m.media), ";", 2)[0]]
}

// plainName returns what is left of a name without directories and what cannot be seen, and of a
// long one its beginning; or "".
func plainName(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
	return shortened(strings.Trim(strings.TrimLeft(path.Base(strings.ReplaceAll(name, `\`, "/")), ". "), "/"))
}

// shortened returns a name that is not too long, with its extension.
func shortened(name string) string {
	if len(name) <= longest {
		return name
	}
	ext := path.Ext(name)
	if len(ext) > 16 {
		ext = ""
	}
	return strings.ToValidUTF8(name[:longest-len(ext)], "") + ext
}

var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif",
	"video/mp4": ".mp4", "video/3gpp": ".3gp", "audio/ogg": ".ogg", "audio/mpeg": ".mp3", "audio/mp4": ".m4a",
	"application/pdf": ".pdf",
}
