CREATE TABLE reupload_account (
	id  INTEGER PRIMARY KEY,
	jid TEXT NOT NULL UNIQUE
);

-- The ids are given in the order of arrival and without gaps, so that the oldest rows are the first
-- ones, and the last id tells how many there are. The columns message, identity and file are 64
-- bits of a hash each: of account and message id, of all else that tells entries apart, and of
-- account and file. That keeps the indexes narrow.
CREATE TABLE reupload_media (
	id          INTEGER PRIMARY KEY,
	account     INTEGER NOT NULL,
	message     INTEGER NOT NULL,
	identity    INTEGER NOT NULL,
	file        INTEGER NOT NULL,
	seconds     INTEGER NOT NULL,
	stored      INTEGER NOT NULL,
	from_me     INTEGER NOT NULL,
	message_id  BLOB    NOT NULL,
	chat        TEXT    NOT NULL,
	participant TEXT    NOT NULL,
	media_key   BLOB    NOT NULL CHECK ( length(media_key) = 32 ),
	file_hash   BLOB             CHECK ( length(file_hash) = 32 ),
	path        BLOB    NOT NULL,
	asked       INTEGER,
	outcome     INTEGER NOT NULL,
	vain        INTEGER NOT NULL
);
CREATE UNIQUE INDEX reupload_media_identity ON reupload_media (message, identity);
CREATE INDEX reupload_media_file ON reupload_media (file, seconds);
