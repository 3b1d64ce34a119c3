package postgres

import (
	"embed"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed query/*.sql
var queryFiles embed.FS

// queries are the texts of query/*.sql for one schema. A field is filled from
// the section of its name, which begins with a small letter.
type queries struct {
	ByIndex, AcceptPlain, Accept, StartPlain, Start, Adopt, Attempt, Finish string
	Step, CancelSeen, Update, Cancel, Schedule, Fence                       string
	ExistingMessages, ExistingExecutions                                    string
	Message, Execution, Steps, PendingFew, PendingMany, Runnable, Timers    string
	ScheduleOne, ScheduleAll, Groups, GroupAdd                              string
	ListMessages, ListExecutions, CountMessages, CountExecutions            string
	RetryMessage, DiscardMessage, RetryExecution, ExecutionStatus           string
	PurgeRunners, MessageTypes, ExecutionTypes                              string
	PurgeMessages, PurgeMessageKeys, PurgeExecutions, PurgeExecutionKeys    string
	Register, Renew, Unregister, Runners, Owners, ShardsAdd, LockOwner      string
	TakeOver, HandOver, EndHolders, EndSessions, LockSpace                  string
	OutboxXid, OutboxStatus                                                 string

	one map[string]string // the text for one row, by the text for any number; the same if there is none
}

// unnested is an array parameter in a target list.
var unnested = regexp.MustCompile(`unnest\((\$[0-9]+::[a-z]+)\[\]\)`)

// forOne returns the text that takes one row, as scalars, instead of arrays.
// The server needs a quarter less time for it.
func forOne(text string) string { return unnested.ReplaceAllString(text, "$1") }

// scalars are the first elements of arrays.
func scalars(arrays []any) []any {
	out := make([]any, len(arrays))
	for i, a := range arrays {
		out[i] = reflect.ValueOf(a).Index(0).Interface()
	}
	return out
}

var schemaPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// checkSchema reports a schema name that is not a plain lower-case identifier.
// What passes is quoted all the same.
func checkSchema(name string) error {
	if !schemaPattern.MatchString(name) || strings.HasPrefix(name, "pg_") {
		return fmt.Errorf("postgres: schema %q is not usable: give it 1 to 63 of a-z, 0-9 and '_', not beginning with a digit or \"pg_\"", name)
	}
	return nil
}

// inSchema puts the quoted schema into a text.
func inSchema(text, schema string) string {
	return strings.ReplaceAll(text, "{{schema}}", pgx.Identifier{schema}.Sanitize())
}

// newQueries reads all sections. It fails only when the embedded files do not
// fit the struct, which a test rules out.
func newQueries(schema string) (*queries, error) {
	sections, err := readSections(schema)
	if err != nil {
		return nil, err
	}
	q := new(queries)
	v := reflect.ValueOf(q).Elem()
	q.one = make(map[string]string)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "one" {
			continue
		}
		name = strings.ToLower(name[:1]) + name[1:]
		text, ok := sections[name]
		if !ok {
			return nil, fmt.Errorf("postgres: query/*.sql has no section %q", name)
		}
		delete(sections, name)
		v.Field(i).SetString(text)
		q.one[text] = forOne(text)
	}
	for name := range sections {
		return nil, fmt.Errorf("postgres: section %q of query/*.sql is not used", name)
	}
	return q, nil
}

// readSections splits the files at their "-- name:" lines and drops comments,
// which would travel to the server with each statement.
func readSections(schema string) (map[string]string, error) {
	files, err := fs.Glob(queryFiles, "query/*.sql")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	sections := make(map[string]string)
	for _, file := range files {
		b, err := queryFiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("postgres: %w", err)
		}
		name := ""
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(line, "-- name: "); ok {
				name = strings.TrimSpace(n)
				if _, twice := sections[name]; twice {
					return nil, fmt.Errorf("postgres: section %q of %s exists twice", name, file)
				}
				sections[name] = ""
				continue
			}
			if !strings.HasPrefix(line, "--") && name != "" {
				sections[name] += line
			}
		}
	}
	for name, text := range sections {
		sections[name] = strings.TrimSpace(inSchema(text, schema))
	}
	return sections, nil
}
