package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// newLog returns the log of the gateway. Much of what is logged was made up by strangers, such as
// message ids: slog quotes it, so that none of it can look like a line or a field of its own.
// Queries of URLs are cut out.
func newLog(out io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch v := a.Value.Any().(type) {
		case string:
			a.Value = slog.StringValue(redact(v))
		case error:
			a.Value = slog.StringValue(redact(v.Error()))
		}
		return a
	}}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	}
	return nil, fmt.Errorf("-log-format is text or json, and not %q", format)
}

// query is that of a URL, which is a key to the file. A direct path that lost its question mark
// has one too.
var query = regexp.MustCompile(`[?&][^\s"'<>]*=[^\s"'<>]*`)

func redact(line string) string { return query.ReplaceAllString(line, "?…") }

// waLogger is the log that whatsmeow and reupload take.
type waLogger struct {
	log    *slog.Logger
	module string
}

func (l waLogger) Debugf(format string, args ...any) {
	if l.module != "Client/Recv" && l.module != "Client/Send" { // whole nodes, with what lets others in
		l.print(slog.LevelDebug, format, args)
	}
}
func (l waLogger) Infof(format string, args ...any)  { l.print(slog.LevelInfo, format, args) }
func (l waLogger) Warnf(format string, args ...any)  { l.print(slog.LevelWarn, format, args) }
func (l waLogger) Errorf(format string, args ...any) { l.print(slog.LevelError, format, args) }

func (l waLogger) print(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, args...), "module", l.module)
	}
}

func (l waLogger) Sub(module string) waLog.Logger {
	if l.module != "" {
		module = l.module + "/" + module
	}
	return waLogger{l.log, module}
}
