// Package sqlindex keeps the index of reupload in SQLite or PostgreSQL, so that media heals after a
// restart too, and so that several processes share what they know.
//
//	// modernc.org/sqlite:
//	db, err := sql.Open("sqlite", "file:bot.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"+
//		"&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
//	// github.com/mattn/go-sqlite3:
//	db, err := sql.Open("sqlite3", "file:bot.db?_foreign_keys=on&_busy_timeout=5000"+
//		"&_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate")
//	index, err := sqlindex.New(ctx, db, "sqlite3")
//	plugin, err := reupload.Register(client, &reupload.Options{Index: index})
//
// The tables are its own, all with the prefix reupload_, and can be in the database of whatsmeow's
// sqlstore or in another one. No driver is imported: any that sqlstore works with will do. Any
// number of accounts and processes can share the tables. Nothing is cached but the numbers of
// accounts, so that a path that one process was told serves all others at once.
//
// # SQLite
//
// One connection can write at a time, and the others wait for as long as their busy_timeout says.
// With none, their writes fail at once, whatsmeow's own among them: it then cannot decrypt the
// message that it was about to, and the message is lost. So [New] refuses such a database. The
// pragma must be in the connection string, since a statement sets it for one connection of the pool
// only.
//
// With _txlock=immediate a transaction waits at its beginning. Without it, a transaction that reads
// before it writes fails at once if another connection has written meanwhile, whatever the
// busy_timeout. whatsmeow has such transactions if the bot sets Client.EnableDecryptedEventBuffer,
// and the bot may have some.
//
// With journal_mode=WAL readers and the writer do not wait for each other, and with
// synchronous=NORMAL a transaction costs no fsync; a power cut can lose the last ones but damages
// nothing.
//
// The index writes for some 20 ms at a time, and then leaves the database to others for about as
// long. Everything works with one connection (SetMaxOpenConns(1)) too, but then a call waits while
// the bot has a transaction open, and must not be made from within one.
//
// # PostgreSQL
//
// It is tested with version 15, with github.com/jackc/pgx/v5/stdlib and github.com/lib/pq, which
// need nothing to be set up. Behind a pooler in transaction mode that does not know of prepared
// statements, such as PgBouncer before version 1.21, pgx needs
// default_query_exec_mode=simple_protocol in its connection string, and lib/pq
// binary_parameters=yes. Transactions that fail because of others are repeated, so that any
// isolation level will do.
//
// # Retention
//
// An entry is forgotten two years after it was first put in. When there are more than two million
// of all accounts together (some 1 GB in SQLite, 1.2 GB in PostgreSQL), the account that has most
// of them loses its oldest ones: an account that has no more than an even share loses none because
// of others. Triggers keep the count of each account, which is exact. [Index.SetRetention] changes
// both limits. This happens a little at a time while entries are put in, and needs nothing else;
// [Index.Prune] does what is left to do at once.
//
// For a file or a message id that came in great numbers, a look-up shares its places as
// [reupload.Index] says. For a file it looks at the newest thousand entries and at the very oldest.
//
// # Secrets
//
// Media keys are stored in reupload_media unencrypted, as whatsmeow's own keys are in whatsmeow's
// tables: anyone who can read the database can decrypt the media that it knows of. Keep it as safe
// as whatsmeow's. Rows that were deleted can stay readable in the file until they are overwritten;
// SQLite's PRAGMA secure_delete prevents that.
package sqlindex
