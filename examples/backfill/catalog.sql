-- What is to be fetched, and what has become of it.
CREATE TABLE IF NOT EXISTS backfill_files (
	id         INTEGER PRIMARY KEY,
	chat       TEXT NOT NULL,
	message    TEXT NOT NULL,
	sender     TEXT NOT NULL,              -- in groups, broadcast lists and status
	from_me    BOOLEAN NOT NULL,
	sent       INTEGER NOT NULL,           -- Unix time of the message; 0 if it is not known
	kind       TEXT NOT NULL,
	media_type TEXT NOT NULL,
	mime       TEXT NOT NULL,
	name       TEXT NOT NULL,
	size       INTEGER NOT NULL,
	is_status  BOOLEAN NOT NULL,
	path       TEXT NOT NULL,
	media_key  BLOB,
	sha256     BLOB NOT NULL,
	enc_sha256 BLOB,
	state      TEXT NOT NULL,              -- see file.go
	cause      TEXT NOT NULL DEFAULT '',
	tries      INTEGER NOT NULL DEFAULT 0,
	next       INTEGER NOT NULL DEFAULT 0, -- Unix time from which it is tried again
	asked      INTEGER NOT NULL DEFAULT 0, -- Unix time at which the phone was asked last
	insists    BOOLEAN NOT NULL DEFAULT FALSE,
	saved      TEXT NOT NULL DEFAULT '',   -- under the directory for media, with slashes
	UNIQUE (message, chat, sender, from_me, sha256)
);
CREATE INDEX IF NOT EXISTS backfill_files_turn ON backfill_files (state, sent DESC);
CREATE INDEX IF NOT EXISTS backfill_files_next ON backfill_files (state, next);
CREATE INDEX IF NOT EXISTS backfill_files_asked ON backfill_files (asked) WHERE asked > 0;
CREATE INDEX IF NOT EXISTS backfill_files_sent ON backfill_files (sent DESC, id);
CREATE INDEX IF NOT EXISTS backfill_files_enc ON backfill_files (enc_sha256);
CREATE INDEX IF NOT EXISTS backfill_files_sha ON backfill_files (sha256);

-- The chats, and how far back their history is known.
CREATE TABLE IF NOT EXISTS backfill_chats (
	jid            TEXT PRIMARY KEY,
	number         TEXT NOT NULL,
	name           TEXT NOT NULL DEFAULT '',
	folder         TEXT NOT NULL DEFAULT '', -- once a file was saved: a chat keeps its folder
	oldest         TEXT NOT NULL DEFAULT '', -- the id of the oldest message that is known
	oldest_from_me BOOLEAN NOT NULL DEFAULT FALSE,
	oldest_sent    INTEGER NOT NULL DEFAULT 0,
	has_older      BOOLEAN NOT NULL DEFAULT FALSE -- the phone says that it has older ones
);

-- Parts of the history that have been announced, and not read yet.
CREATE TABLE IF NOT EXISTS backfill_parts (
	message      TEXT PRIMARY KEY,
	notification BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS backfill_account (number TEXT NOT NULL);
