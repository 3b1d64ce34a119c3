package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxLinks bounds how many symbolic links lead to a file.
const maxLinks = 40

// resolve returns the one name of a file, which need not exist: absolute, and
// without symbolic links.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("the path is empty: name a file, or use OpenMemory")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the folder %q does not exist: create it first", filepath.Dir(abs))
		}
		if err != nil {
			return "", err
		}
		abs = filepath.Join(dir, filepath.Base(abs))
		info, err := os.Lstat(abs)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return abs, nil
		case err != nil:
			return "", err
		case info.IsDir():
			return "", fmt.Errorf("%q is a folder: name a file in it", abs)
		case info.Mode()&fs.ModeSymlink == 0:
			return abs, nil
		}
		target, err := os.Readlink(abs)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		abs = target
	}
	return "", fmt.Errorf("%q leads through more than %d symbolic links", path, maxLinks)
}
