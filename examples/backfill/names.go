package main

import (
	"fmt"
	"mime"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// This file makes the names of folders and files. No sender can make one that takes the place of
// another file, leads out of the directory, or is run by a click. It is pure.

// longestName is how many bytes of a sender's name are used. File systems allow 255.
const longestName = 80

// folderOf returns the folder of a chat: its name, if there is one, and its number, which tells
// chats of the same name apart.
func folderOf(name, number string) string {
	number = clean(number)
	switch name = clean(name); {
	case number == "status":
		return "Status"
	case name == "" || name == number:
		return number
	}
	return fmt.Sprintf("%s (%s)", name, number)
}

// pathOf returns where a file belongs under its chat's folder: by the month of its message, and
// under a name that begins with the message's time and ends with the file's checksum.
func (f *file) pathOf(folder string) string {
	month, at := "undated", ""
	if !f.sent.IsZero() {
		sent := f.sent.In(time.Local)
		month, at = sent.Format("2006-01"), sent.Format("2006-01-02 15.04.05 ")
	}
	ext := extension(f.mime, f.name)
	name := path.Base(strings.ReplaceAll(f.name, `\`, "/"))
	if strings.EqualFold(path.Ext(name), ext) {
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	if name = clean(name); name == "" {
		name = string(f.kind)
	}
	return path.Join(folder, month, fmt.Sprintf("%s%s %.8x%s", at, name, f.checksum, ext))
}

// clean makes a text fit for a name on any file system.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`<>:"/\|?*`, r), unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar, unicode.IsControl(r), unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs): // such as those that turn the text around
			return -1
		}
		return r
	}, name)
	name = strings.Join(strings.Fields(name), " ")
	for len(name) > longestName {
		runes := []rune(name)
		name = string(runes[:len(runes)-1])
	}
	return strings.Trim(name, ". ~")
}

// extensions are the ones that files get, so that no sender can make a program be written.
var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif", "image/heic": ".heic",
	"video/mp4": ".mp4", "video/3gpp": ".3gp", "video/quicktime": ".mov", "video/webm": ".webm",
	"audio/ogg": ".ogg", "audio/mpeg": ".mp3", "audio/mp4": ".m4a", "audio/aac": ".aac", "audio/amr": ".amr", "audio/wav": ".wav",
	"application/pdf": ".pdf", "application/zip": ".zip", "text/plain": ".txt", "text/csv": ".csv",
	"application/msword": ".doc", "application/vnd.ms-excel": ".xls", "application/vnd.ms-powerpoint": ".ppt",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document":   ".docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":         ".xlsx",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}

// knownExtensions are all of these.
var knownExtensions = func() (all []string) {
	for _, ext := range extensions {
		all = append(all, ext)
	}
	return all
}()

// extension returns the extension for a type such as "audio/ogg; codecs=opus", or that of the
// sender's name if it is a known one, and .bin otherwise.
func extension(mimetype, name string) string {
	base, _, err := mime.ParseMediaType(mimetype)
	if err != nil {
		base, _, _ = strings.Cut(strings.ToLower(mimetype), ";")
	}
	if ext, ok := extensions[strings.TrimSpace(base)]; ok {
		return ext
	}
	if ext := strings.ToLower(path.Ext(name)); slices.Contains(knownExtensions, ext) {
		return ext
	}
	return ".bin"
}

// shows tells what a browser can do with a file: "image", "video", "audio", or nothing.
func (f *file) shows() string {
	switch extension(f.mime, f.name) {
	case ".jpg", ".png", ".webp", ".gif":
		return "image"
	case ".mp4", ".webm", ".mov":
		return "video"
	case ".ogg", ".mp3", ".m4a", ".aac", ".wav":
		return "audio"
	}
	return ""
}
