CREATE TABLE reupload_account (
	id  BIGSERIAL PRIMARY KEY,
	jid TEXT NOT NULL UNIQUE
);

-- The ids are given in the order of arrival and with hardly any gaps, so that the oldest rows are
-- the first ones, and the last id tells about how many there are. The columns message, identity and
-- file are 64 bits of a hash each: of account and message id, of all else that tells entries apart,
-- and of account and file. That keeps the indexes narrow.
CREATE SEQUENCE reupload_media_ids;
CREATE TABLE reupload_media (
	id          BIGINT  NOT NULL,
	account     BIGINT  NOT NULL,
	message     BIGINT  NOT NULL,
	identity    BIGINT  NOT NULL,
	file        BIGINT  NOT NULL,
	seconds     BIGINT  NOT NULL,
	stored      BIGINT  NOT NULL,
	from_me     BOOLEAN NOT NULL,
	message_id  BYTEA   NOT NULL,
	chat        TEXT    NOT NULL,
	participant TEXT    NOT NULL,
	media_key   BYTEA   NOT NULL CHECK ( length(media_key) = 32 ),
	file_hash   BYTEA            CHECK ( length(file_hash) = 32 ),
	path        BYTEA   NOT NULL,
	asked       BIGINT,
	outcome     INTEGER NOT NULL,
	vain        INTEGER NOT NULL,
	PRIMARY KEY (message, identity)
);
CREATE INDEX reupload_media_id ON reupload_media (id);
CREATE INDEX reupload_media_file ON reupload_media (file, seconds, id);
