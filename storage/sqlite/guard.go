package sqlite

import (
	"strings"

	"modernc.org/sqlite"

	"github.com/cruster-go/cruster/crustertype"
)

// guard decides what users' statements may do on the writer's connection. It
// is asked when a statement is compiled, with the connection locked.
type guard struct {
	ours    bool  // the statement is cruster's own
	reading bool  // the statement may only read
	denied  error // why the last statement was denied
}

// Pragmas that would take the connection out of the store's hands.
var ownPragmas = map[string]bool{
	"journal_mode": true, "synchronous": true, "locking_mode": true, "writable_schema": true, "busy_timeout": true,
	"foreign_keys": true, "query_only": true, "wal_autocheckpoint": true, "wal_checkpoint": true, "journal_size_limit": true,
	"read_uncommitted": true, "ignore_check_constraints": true,
}

const ownPrefix = "cruster_"

func (g *guard) decide(action sqlite.AuthorizerActionCode, arg1, arg2, _, _ string) sqlite.AuthorizerReturnCode {
	if g.ours {
		return sqlite.AuthorizerOK
	}
	if err := g.judge(action, arg1, arg2); err != nil {
		g.denied = err
		return sqlite.AuthorizerDeny
	}
	return sqlite.AuthorizerOK
}

func (g *guard) judge(action sqlite.AuthorizerActionCode, arg1, arg2 string) error {
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthFunction, sqlite.AuthRecursive:
		return nil
	case sqlite.AuthTransaction:
		if g.reading {
			break
		}
		return crustertype.Errorf(crustertype.CodeTxDone,
			"%s inside the transaction: return nil to commit it, an error to roll it back", arg1)
	case sqlite.AuthPragma:
		if arg2 != "" && ownPragmas[strings.ToLower(arg1)] {
			return crustertype.Errorf(crustertype.CodeInvalid, "pragma %q belongs to the store: set it through sqlite.Options", arg1)
		}
		return nil
	}
	if g.reading {
		return crustertype.Errorf(crustertype.CodeInvalid,
			"Store.DB is for reading: write in a handler's transaction, or in one of sqlite.InTx")
	}
	switch action {
	case sqlite.AuthInsert, sqlite.AuthUpdate, sqlite.AuthDelete, sqlite.AuthCreateTable, sqlite.AuthDropTable,
		sqlite.AuthCreateView, sqlite.AuthDropView, sqlite.AuthCreateIndex, sqlite.AuthDropIndex,
		sqlite.AuthCreateTrigger, sqlite.AuthDropTrigger:
		if own(arg1) || own(arg2) && action != sqlite.AuthUpdate {
			return crustertype.Errorf(crustertype.CodeInvalid, "%q is one of cruster's tables, which only cruster changes", arg1)
		}
	case sqlite.AuthAlterTable:
		if own(arg2) {
			return crustertype.Errorf(crustertype.CodeInvalid, "%q is one of cruster's tables, which only cruster changes", arg2)
		}
	}
	return nil
}

func own(name string) bool {
	return len(name) >= len(ownPrefix) && strings.EqualFold(name[:len(ownPrefix)], ownPrefix)
}

// reason returns why a statement was denied, once.
func (g *guard) reason() error {
	err := g.denied
	g.denied = nil
	return err
}
