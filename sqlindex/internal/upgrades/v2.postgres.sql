ALTER TABLE reupload_media RENAME COLUMN vain TO failures;
ALTER TABLE reupload_media ADD COLUMN came_with BYTEA NOT NULL DEFAULT '';

-- The rows of an account in the order of arrival.
CREATE INDEX reupload_media_account ON reupload_media (account, id);

-- How many rows each account has, so that pruning counts none. An entry that replaces another one
-- is no new row, and is not among the new ones of a statement.
ALTER TABLE reupload_account ADD COLUMN entries BIGINT NOT NULL DEFAULT 0;
UPDATE reupload_account AS a SET entries = (SELECT count(*) FROM reupload_media AS m WHERE m.account = a.id);
CREATE FUNCTION reupload_media_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE reupload_account AS a SET entries = entries + CASE TG_OP WHEN 'INSERT' THEN n.rows ELSE -n.rows END
	FROM (SELECT account, count(*) AS rows FROM changed GROUP BY account) AS n WHERE a.id = n.account;
	RETURN NULL;
END
$$;
CREATE TRIGGER reupload_media_inserted AFTER INSERT ON reupload_media
	REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION reupload_media_count();
CREATE TRIGGER reupload_media_deleted AFTER DELETE ON reupload_media
	REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION reupload_media_count();
