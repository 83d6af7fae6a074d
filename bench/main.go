// Command bench measures cove beside podman and docker: the same image, the
// same commands, run by turns, so that whatever else the machine does moves
// all three. It prints a table of medians and asserts nothing.
//
//	make bench                     every row
//	bench/run -rows 'run|exec'     some rows
//	bench/run -short -runs 2       small crowds and a small image: a smoke test
//
// Each engine has a house of its own (house.go): namespaces, cgroups and a
// store that are gone when the program ends, also when it is interrupted.
// Nothing is sent beyond their loopbacks and bridges. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
)

func main() {
	if stage := os.Getenv(stageVar); stage != "" {
		inside(stage)
	}
	// The houses die with the thread that has started them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := command(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	case err != nil && !errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	rows  *regexp.Regexp
	runs  int
	short bool
	json  string
	cove  string
	// runtime is the OCI runtime that is tried with the others.
	runtime string
}

func parse() (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := fs.String("rows", "", "measure only the rows whose name matches this `REGEX`")
	fs.IntVar(&o.runs, "runs", 20, "`N` samples per row; the slow rows take fewer")
	fs.BoolVar(&o.short, "short", false, "small crowds and a small image")
	fs.StringVar(&o.json, "json", "", "write every sample to this `FILE` too")
	fs.StringVar(&o.cove, "cove", "bin/cove", "the cove to measure")
	fs.StringVar(&o.runtime, "runtime", "bin/cove-runtime", "the OCI runtime to try with podman and docker")
	if err := fs.Parse(os.Args[1:]); err != nil {
		return o, err
	}
	var err error
	if o.rows, err = regexp.Compile(*rows); err != nil {
		return o, err
	}
	if o.runs < 1 || fs.NArg() > 0 {
		return o, errors.New("-runs must be at least 1, and there are no arguments")
	}
	if o.cove, err = filepath.Abs(o.cove); err != nil {
		return o, err
	}
	if o.runtime, err = filepath.Abs(o.runtime); err != nil {
		return o, err
	}
	if os.Geteuid() != 0 {
		return o, errors.New("needs root")
	}
	return o, nil
}

// command does everything; what it has made is gone when it returns.
func command(ctx context.Context) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	if err := ownMounts(); err != nil {
		return err
	}
	// The distribution's engines, not others that someone has put before them.
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH")); err != nil {
		return err
	}
	b, err := begin(ctx, o)
	defer func() { err = errors.Join(err, b.end()) }()
	if err != nil {
		return err
	}
	r := newReport(b)
	var failed error
	for _, row := range rows {
		if !o.rows.MatchString(row.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", row.name)
		got, err := row.measure(b, row)
		if ctx.Err() != nil {
			return nil
		}
		r.Rows = append(r.Rows, got...)
		if err != nil { // what has been measured is shown all the same
			failed = fmt.Errorf("%s: %w", row.name, err)
			break
		}
	}
	r.LoadEnd = load()
	r.markdown(os.Stdout)
	if o.json != "" {
		failed = errors.Join(failed, r.save(o.json))
	}
	return failed
}
