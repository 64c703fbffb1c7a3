package sqlindex_test

import (
	"context"
	"database/sql"
	"log"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store/sqlstore"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// A bot with one SQLite file for WhatsApp's session and for the index. It needs a driver, such as
// modernc.org/sqlite, which it imports as _.
func ExampleNew() {
	ctx := context.Background()
	const dsn = "file:bot.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(NORMAL)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	sessions := sqlstore.NewWithDB(db, "sqlite3", nil)
	if err = sessions.Upgrade(ctx); err != nil {
		log.Fatal(err)
	}
	device, err := sessions.GetFirstDevice(ctx)
	if err != nil {
		log.Fatal(err)
	}
	client := whatsmeow.NewClient(device, nil)

	index, err := sqlindex.New(ctx, db, "sqlite3")
	if err != nil {
		log.Fatal(err)
	}
	plugin, err := reupload.Register(client, &reupload.Options{Index: index})
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()

	// Add the bot's own event handlers here.

	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
}
