-- Rows that are there already stay as they are, without being a status.
ALTER TABLE reupload_media ADD COLUMN is_status INTEGER NOT NULL DEFAULT 0;
