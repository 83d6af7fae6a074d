package cli

import (
	"errors"

	"github.com/cove-engine/cove"
)

// Exit codes, which podman and docker share.
const (
	exitEngine        = 125 // cove itself failed
	exitNotExecutable = 126 // the container's command cannot be executed
	exitNoCommand     = 127 // the container's command does not exist
	exitMissing       = 1   // rm, exists …: no such object
	exitState         = 2   // rm of a running container; network, volume in use
)

// kindCodes is the one table from kind of error to exit code. What is not in
// it is 125.
var kindCodes = map[cove.Kind]int{
	cove.NotExecutable: exitNotExecutable,
	cove.NoCommand:     exitNoCommand,
}

// exitError is an error whose exit code is not its kind's; with a nil err it
// only carries a code and prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// coded gives err the exit code; nil stays nil.
func coded(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode gives the exit code of err: the code that a command chose, else
// its kind's.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if c, ok := kindCodes[cove.KindOf(err)]; ok {
		return c
	}
	return exitEngine
}

// codedByKind gives err the code of its kind in codes: rm and its kin, where
// a missing object is 1 and one in use 2. With several errors joined, the
// first kind without a code makes it 125, as in podman.
func codedByKind(err error, codes map[cove.Kind]int) error {
	if err == nil {
		return nil
	}
	code := 0
	for _, e := range flatten(err) {
		c, ok := codes[cove.KindOf(e)]
		if !ok {
			return err
		}
		code = max(code, c)
	}
	return coded(code, err)
}
