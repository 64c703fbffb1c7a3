package main

import (
	"fmt"
	"regexp"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// query is that of a URL, which is a key to the file and stays out of the log. A direct path that
// lost its question mark has one too.
var query = regexp.MustCompile(`[?&][^\s"'<>]*=[^\s"'<>]*`)

func redact(line string) string { return query.ReplaceAllString(line, "?…") }

// A redactor is a log without the queries of URLs, which whatsmeow logs when the network fails.
type redactor struct{ to waLog.Logger }

func (r redactor) Debugf(format string, args ...any) {
	r.to.Debugf("%s", redact(fmt.Sprintf(format, args...)))
}
func (r redactor) Infof(format string, args ...any) {
	r.to.Infof("%s", redact(fmt.Sprintf(format, args...)))
}
func (r redactor) Warnf(format string, args ...any) {
	r.to.Warnf("%s", redact(fmt.Sprintf(format, args...)))
}
func (r redactor) Errorf(format string, args ...any) {
	r.to.Errorf("%s", redact(fmt.Sprintf(format, args...)))
}
func (r redactor) Sub(module string) waLog.Logger { return redactor{r.to.Sub(module)} }
