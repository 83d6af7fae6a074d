package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// selection is which containers a command is for: names, or one of --all,
// --latest, --filter and --cidfile.
type selection struct {
	all, latest, ignore bool
	filters, cidfiles   []string
}

// flags declares what of the selection the command has: letters of a(ll),
// l(atest), f(ilter), c(idfile), i(gnore).
func (s *selection) flags(fs *pflag.FlagSet, which, verb string) {
	for _, w := range which {
		switch w {
		case 'a':
			fs.BoolVarP(&s.all, "all", "a", false, verb+" all containers")
		case 'A': // without the short form
			fs.BoolVar(&s.all, "all", false, verb+" all containers")
		case 'l':
			fs.BoolVarP(&s.latest, "latest", "l", false, "Act on the latest container cove is aware of")
		case 'f':
			arrayVar(fs, &s.filters, "filter", "f", "Filter output based on conditions given")
		case 'F': // without the short form
			arrayVar(fs, &s.filters, "filter", "", "Filter output based on conditions given")
		case 'c':
			arrayVar(fs, &s.cidfiles, "cidfile", "", "Read the container ID from the file")
		case 'i':
			fs.BoolVarP(&s.ignore, "ignore", "i", false, "Ignore errors when a specified container is missing")
		}
	}
}

// target is one container to act on.
type target struct {
	name  string // as given, or the ID
	fresh engine.Container
	known bool // fresh is filled: from a list
}

// targets gives the containers to act on; suits chooses among those that
// --all and --filter find, nil takes all.
func (s *selection) targets(ctx context.Context, e Engine, args []string, suits func(engine.Container) bool) ([]target, error) {
	if err := s.check(args); err != nil {
		return nil, err
	}
	var ts []target
	switch {
	case s.latest:
		list, err := e.List(ctx, engine.ListOptions{All: true, Latest: true})
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, cove.E("", "", cove.NotFound, errors.New("no containers to act on"))
		}
		return []target{{name: list[0].ID, fresh: list[0], known: true}}, nil
	case s.all || len(s.filters) > 0:
		filters, err := splitFilters(s.filters)
		if err != nil {
			return nil, err
		}
		list, err := e.List(ctx, engine.ListOptions{All: true, Filters: filters})
		if err != nil {
			return nil, err
		}
		wanted := map[string]string{} // names as they were given, by ID
		for _, a := range args {
			c, err := e.Container(ctx, a, false)
			if err != nil {
				if s.ignore && cove.Is(err, cove.NotFound) {
					continue
				}
				return nil, err
			}
			wanted[c.ID] = a
		}
		for _, c := range list {
			if len(args) > 0 && wanted[c.ID] == "" || suits != nil && !suits(c) {
				continue
			}
			ts = append(ts, target{name: cmp.Or(wanted[c.ID], c.ID), fresh: c, known: true})
		}
		return ts, nil
	}
	return ts, nil
}

// choose is targets with names and cidfiles: the usual way.
func (s *selection) choose(ctx context.Context, a *app, args []string, suits func(engine.Container) bool) (Engine, []target, error) {
	if err := s.check(args); err != nil {
		return nil, nil, err
	}
	names := args
	for _, f := range s.cidfiles {
		data, err := a.outside().readFile(f)
		if err != nil {
			if s.ignore {
				continue
			}
			return nil, nil, fmt.Errorf("reading CIDFile: %w", err)
		}
		id, _, _ := bytes.Cut(data, []byte("\n"))
		if len(bytes.TrimSpace(id)) == 0 {
			return nil, nil, fmt.Errorf("reading CIDFile %s: empty", f)
		}
		names = append(names[:len(names):len(names)], strings.TrimSpace(string(id)))
	}
	e, err := a.engine()
	if err != nil {
		return nil, nil, err
	}
	if s.all || s.latest || len(s.filters) > 0 {
		ts, err := s.targets(ctx, e, args, suits)
		return e, ts, err
	}
	ts := make([]target, 0, len(names))
	for _, n := range names {
		if len(names) > 1 {
			// As podman does: all are looked up before one is touched.
			if _, err := e.Container(ctx, n, false); s.ignore && cove.Is(err, cove.NotFound) {
				continue
			} else if err != nil {
				return nil, nil, err
			}
		}
		ts = append(ts, target{name: strings.TrimPrefix(n, "/")}) // as it is answered
	}
	return e, ts, nil
}

// check refuses selections that contradict each other, in podman's words.
func (s *selection) check(args []string) error {
	ids := len(s.cidfiles) > 0
	switch {
	case s.all && s.latest && ids:
		return errors.New("--all, --latest, and --cidfile cannot be used together")
	case s.all && s.latest:
		return errors.New("--all and --latest cannot be used together")
	case s.all && ids:
		return errors.New("--all and --cidfile cannot be used together")
	case s.latest && ids:
		return errors.New("--latest and --cidfile cannot be used together")
	case s.all && len(args) > 0:
		return errors.New("no arguments are needed with --all")
	case s.latest && len(args) > 0:
		return errors.New("--latest and containers cannot be used together")
	case len(s.filters) > 0 && (s.latest || ids):
		return errors.New("--filter cannot be used together with --latest or --cidfile")
	case len(args) == 0 && !s.all && !s.latest && !ids && len(s.filters) == 0:
		return errors.New("you must provide at least one name or id")
	}
	return nil
}

// each runs verb on every target, prints the name of each that succeeded and
// joins the errors of the others. Missing ones pass with ignore. When ctx ends
// the rest is left.
func (a *app) each(ctx context.Context, ts []target, ignore bool, verb func(target) error) error {
	var errs []error
	for _, t := range ts {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		errs = append(errs, a.outcome(t, verb(t), ignore))
	}
	return errors.Join(errs...)
}

// outcome tells of each's verb on one target.
func (a *app) outcome(t target, err error, ignore bool) error {
	switch {
	case err == nil:
		fmt.Fprintln(a.Out, t.name)
	case cove.Is(err, cove.NotFound) && (ignore || t.known): // t.known: gone since it was listed
	default:
		return err
	}
	return nil
}

// eachTogether is each for verbs that wait for what they act on: many are
// carried out at the same time, and told in the order of the targets. What
// another target still uses is tried again after it.
func (a *app) eachTogether(ctx context.Context, ts []target, ignore bool, verb func(target) error) error {
	var errs []error
	for {
		var used []target
		var why []error
		results := together(ctx, ts, verb)
		for i, t := range ts {
			err, done := <-results[i]
			if !done {
				return errors.Join(append(append(errs, why...), context.Cause(ctx))...)
			}
			if cove.Is(err, cove.InUse) {
				used, why = append(used, t), append(why, err)
				continue
			}
			errs = append(errs, a.outcome(t, err, ignore))
		}
		if len(used) == 0 || len(used) == len(ts) {
			return errors.Join(append(errs, why...)...)
		}
		ts = used
	}
}

// together runs verb on many targets at a time and gives where each one's
// result will be told. When ctx ends no more are begun: the channel of the
// first one left out is closed.
func together(ctx context.Context, ts []target, verb func(target) error) []chan error {
	const most = 32
	results := make([]chan error, len(ts))
	for i := range results {
		results[i] = make(chan error, 1)
	}
	go func() {
		room := make(chan struct{}, most)
		for i, t := range ts {
			room <- struct{}{}
			if ctx.Err() != nil {
				close(results[i])
				return
			}
			go func() {
				results[i] <- verb(t)
				<-room
			}()
		}
	}()
	return results
}

// running reports whether c has a live init.
func running(c engine.Container) bool {
	return c.Status == cove.Running || c.Status == cove.Paused || c.Status == cove.Stopping
}
