package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// errNoPostgres means that the demo can have no PostgreSQL of its own.
var errNoPostgres = errors.New("no PostgreSQL server is installed: there is no initdb in PATH or in /usr/lib/postgresql/*/bin; " +
	"install one (apt install postgresql), or name an empty database with -dsn")

// startPostgres starts a PostgreSQL server that has its data and its socket in a new directory, and
// no TCP port. The error can be errNoPostgres.
func startPostgres(ctx context.Context) (dsn string, stop func(), err error) {
	bin, err := findPostgres()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "reupload-pg-") // short: the path of a socket may have a hundred characters only
	if err != nil {
		return "", nil, err
	}
	stop = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			stop()
		}
	}()
	attr, err := attributes(dir)
	if err != nil {
		return "", nil, err
	}
	const user = "gateway"
	data := filepath.Join(dir, "data")
	// Whom the directory lets in may do everything.
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"-D", data, "-U", user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb in %s: %w\n%s", dir, err, output)
	}
	var output bytes.Buffer
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-h", "", "-p", "5432", "-F", "-N", "400")
	server.SysProcAttr, server.Dir, server.Stderr = attr, dir, &output
	if err = server.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait()
		close(ended)
	}()
	stop = func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once; the data is not needed any more
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = server.Process.Kill()
			<-ended
		}
		_ = os.RemoveAll(dir)
	}
	dsn = fmt.Sprintf("host=%s port=5432 user=%s dbname=postgres sslmode=disable", dir, user)
	if err = waitForDB(ctx, dsn, ended); err != nil {
		stop()
		stop = func() {}
		return "", nil, fmt.Errorf("PostgreSQL did not start in %s: %w\n%s", dir, err, output.Bytes())
	}
	return dsn, stop, nil
}

func waitForDB(ctx context.Context, dsn string, ended <-chan struct{}) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return errors.New("the server has ended")
		case <-ctx.Done():
			return err
		}
	}
}

// findPostgres returns the directory with the programs of PostgreSQL: the one in PATH, or if there
// is none, the newest of Debian's.
func findPostgres() (bin string, err error) {
	if found, err := exec.LookPath("initdb"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil {
			return filepath.Dir(found), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errNoPostgres
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { // 9.6 is older than 15
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return bytes.Compare([]byte(a), []byte(b))
	})), nil
}
