package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

var errLookup = errors.New("the bot's database has failed, as it does")

// inventedRow begins the ids of rows that are about nothing.
const inventedRow = "3EB0ROW"

// lookup returns the bot's Lookup, as the world has it.
func (b *bot) lookup() func(context.Context, []byte) ([]reupload.Request, error) {
	kind := b.Lookup
	if kind == "" {
		return nil
	}
	return func(ctx context.Context, hash []byte) ([]reupload.Request, error) {
		b.count(kind)
		rows := b.rows(hash)
		switch kind {
		case lookupLate:
			if !sleep(ctx, 1500*time.Millisecond) {
				return nil, ctx.Err()
			}
		case lookupHangs:
			const tolerable = 4 // in each life
			b.mu.Lock()
			lives := int32(b.life + 1)
			b.mu.Unlock()
			if n := b.hanging.Add(1); n > tolerable*lives {
				b.violate(Violation{Rule: "leftovers", Facts: []string{string(kind)}, What: fmt.Sprintf("%d calls of Lookup hang at once, after %d lives", n, lives)})
			}
			<-b.ctx.Done() // of the world
		case lookupErrs:
			return nil, errLookup
		case lookupWrong:
			for i := range rows {
				rows[i].MessageID += "X"
			}
		case lookupMany:
			for i := range 300 {
				rows = append(rows, reupload.Request{
					MessageID: fmt.Sprint(inventedRow, i), Chat: b.people[1].pn, MediaKey: bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16),
				})
			}
		case lookupRaw:
			for i := range rows {
				rows[i] = b.raw(rows[i])
			}
			b.gaveOdd(rows)
		}
		return rows, nil
	}
}

// rows returns the rows of a file in the bot's own table: all mails that no stranger has made.
func (b *bot) rows(hash []byte) (rows []reupload.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.byHash[string(hash)] {
		if m.junk == "" && m.how != "quoted" && m.chat.kind != newsletter {
			m.given = time.Now()
			rows = append(rows, m.request())
		}
	}
	return rows
}

// gaveOdd notes which messages the plugin was given with odd senders.
func (b *bot) gaveOdd(rows []reupload.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		for _, m := range b.byID[r.MessageID] {
			m.oddRow = m.oddRow || r.Participant.User != ""
		}
	}
}

// raw returns a request as a bot's database has it, where senders are kept in all forms.
func (b *bot) raw(r reupload.Request) reupload.Request {
	if r.Participant.IsEmpty() {
		return r
	}
	switch b.dice.For("raw", r.MessageID).IntN(4) {
	case 0:
		r.Participant = types.JID{User: r.Participant.User}
	case 1:
		r.Participant = types.JID{User: r.Participant.String()}
	case 2:
		r.Participant = types.JID{User: r.Participant.User + ":7"}
	case 3:
		r.Participant = types.JID{User: "+" + r.Participant.User}
	}
	return r
}
