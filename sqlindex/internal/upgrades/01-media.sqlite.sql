-- v0 -> v1: Latest schema
CREATE TABLE reupload_account (
	id  INTEGER PRIMARY KEY,
	jid TEXT NOT NULL UNIQUE
);

-- The ids are given in the order of arrival and without gaps, so that the oldest rows are the first ones, and the last id tells
-- how many there are. The columns message, identity and file are 64 bits of a hash, which keeps the indexes narrow.
CREATE TABLE reupload_media (
	id          INTEGER PRIMARY KEY,
	account     INTEGER NOT NULL,
	message     INTEGER NOT NULL,
	identity    INTEGER NOT NULL,
	file        INTEGER NOT NULL,
	seconds     INTEGER NOT NULL,
	stored      INTEGER NOT NULL,
	asked       INTEGER NOT NULL,
	outcome     INTEGER NOT NULL,
	vain        INTEGER NOT NULL,
	from_me     INTEGER NOT NULL,
	message_id  BLOB    NOT NULL,
	chat        TEXT    NOT NULL,
	participant TEXT    NOT NULL,
	media_key   BLOB    NOT NULL CHECK ( length(media_key) = 32 ),
	file_hash   BLOB             CHECK ( length(file_hash) = 32 ),
	path        BLOB    NOT NULL
);
CREATE UNIQUE INDEX reupload_media_message ON reupload_media (message, identity);
CREATE INDEX reupload_media_file ON reupload_media (file, seconds);
