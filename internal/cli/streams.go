package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cove-engine/cove/internal/engine"
)

// keySequence is the value of --detach-keys: what is given empty switches detaching off.
type keySequence string

// String, Set and Type make a keySequence a [pflag.Value].
func (k *keySequence) String() string { return string(*k) }

func (k *keySequence) Set(v string) error {
	*k = keySequence(cmp.Or(v, engine.NoDetachKeys))
	return nil
}

func (*keySequence) Type() string { return "string" }

// terminal is the caller's terminal when stdin is one, else nil.
func (a *app) terminal() *os.File {
	if isTerminal(a.In) {
		return a.In.(*os.File)
	}
	return nil
}

// outTerminal is the caller's terminal when stdout is one, else nil.
func (a *app) outTerminal() *os.File {
	if isTerminal(a.Out) {
		return a.Out.(*os.File)
	}
	return nil
}

// streams are the caller's streams for a process that has a terminal when
// tty and reads when stdin. Only those in attach are given when it is not
// empty.
func (a *app) streams(tty, stdin bool, attach []string) engine.Streams {
	s := engine.Streams{Out: a.Out, Err: a.Err}
	if stdin {
		s.In = a.In
	}
	if len(attach) > 0 {
		has := func(name string) bool {
			return slices.ContainsFunc(attach, func(s string) bool { return strings.EqualFold(s, name) })
		}
		if !has("stdin") {
			s.In = nil
		}
		if !has("stdout") {
			s.Out = nil
		}
		if !has("stderr") {
			s.Err = nil
		}
	}
	if tty && s.In != nil {
		s.Terminal = a.terminal()
	}
	return s
}

// warnTTY tells that -it will not work as hoped.
func (a *app) warnTTY(tty, stdin bool) {
	if tty && stdin && a.terminal() == nil {
		a.warn("The input device is not a TTY. The --tty and --interactive flags might not work properly")
	}
}

// warn prints a warning to stderr.
func (a *app) warn(msg string) { fmt.Fprintf(a.Err, "WARNING: %s\n", visible(msg)) }
