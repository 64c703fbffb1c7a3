package sqlindex

import (
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

var (
	FormatJID  = formatJID
	ParseJID   = parseJID
	PutOne     = putOne
	PutMany    = putMany
	Bounded    = bounded[int]
	IsConflict = isConflict
)

const SQLiteRows = sqliteRows

// Merged returns the rows for entries as entries again.
func Merged(entries []reupload.Entry) ([]reupload.Entry, error) {
	rows, err := makeRows(1, time.Now().Unix(), entries)
	if err != nil {
		return nil, err
	}
	merged := make([]reupload.Entry, len(rows))
	for i := range rows {
		if merged[i], err = rows[i].entry(); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

// ArrayArgs returns the arrays for entries.
func ArrayArgs(entries []reupload.Entry) ([]any, error) {
	rows, err := makeRows(1, time.Now().Unix(), entries)
	return arrayArgs(1, 2, rows), err
}
