package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		panic(err)
	}
	*file = filepath.Join(dir, "counter.db")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// The second run of the program finds what the first one wrote.
func Example_main() {
	main()
	main()
	// Output:
	// c-1 is 5
	// c-1 is 10
}
