package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// errLocked says that somebody has the lock.
var errLocked = errors.New("locked")

// fileLock is the right to use a database. The operating system takes it back
// when the process ends.
type fileLock struct{ f *os.File }

// lockFile takes the lock of the database at path, on a file beside it. That
// file stays: were it removed, two processes could hold two locks of one name.
func lockFile(path string) (*fileLock, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		if errors.Is(err, errLocked) {
			err = fmt.Errorf("%s has it open: one process, and one store in it, uses a SQLite file at a time (its lock is %q)", holderOf(f), name)
		}
		return nil, errors.Join(err, f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileLock{f}, nil
}

// holderOf says who has the lock.
func holderOf(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	pid := strings.TrimSpace(string(b))
	switch _, bad := strconv.Atoi(pid); {
	case err != nil || bad != nil:
		return "another process"
	case pid == strconv.Itoa(os.Getpid()):
		return "this process (" + pid + ")"
	}
	return "process " + pid
}

// unlock gives the lock back.
func (l *fileLock) unlock() error { return l.f.Close() }
