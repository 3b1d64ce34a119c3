//go:build !windows && !(unix && !solaris && !illumos && !aix)

package sqlite

import (
	"errors"
	"os"
)

func tryLock(*os.File) error {
	return errors.New("this platform has no lock that ends with the process, so a SQLite file cannot be kept to one process")
}
