package cruster_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cruster-go/cruster"
)

func TestEveryFieldOfConfigIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for f := range reflect.TypeFor[cruster.Config]().Fields() {
		if !strings.Contains(string(doc), "\n| `"+f.Name+"` |") {
			t.Errorf("docs/configuration.md has no row for Config.%s: say its default and what it does", f.Name)
		}
	}
}
