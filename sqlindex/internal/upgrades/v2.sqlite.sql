ALTER TABLE reupload_media RENAME COLUMN vain TO failures;
ALTER TABLE reupload_media ADD COLUMN came_with BLOB NOT NULL DEFAULT x'';

-- The rows of an account in the order of arrival: an index has the id at its end.
CREATE INDEX reupload_media_account ON reupload_media (account);

-- How many rows each account has, so that pruning counts none. An entry that replaces another one
-- is no new row, and fires no trigger for one.
ALTER TABLE reupload_account ADD COLUMN entries INTEGER NOT NULL DEFAULT 0;
UPDATE reupload_account SET entries = (SELECT count(*) FROM reupload_media WHERE account = reupload_account.id);
CREATE TRIGGER reupload_media_inserted AFTER INSERT ON reupload_media BEGIN
	UPDATE reupload_account SET entries = entries + 1 WHERE id = NEW.account;
END;
CREATE TRIGGER reupload_media_deleted AFTER DELETE ON reupload_media BEGIN
	UPDATE reupload_account SET entries = entries - 1 WHERE id = OLD.account;
END;
