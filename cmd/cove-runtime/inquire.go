package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/runtime"
)

func list(c *command, args []string) (int, error) {
	format := c.flags.String("format", "table", "table or json")
	c.flags.StringVar(format, "f", "table", "the same")
	quiet := c.flags.Bool("quiet", false, "IDs only")
	c.flags.BoolVar(quiet, "q", false, "the same")
	if err := c.flags.Parse(args); err != nil {
		return -1, err
	}
	all, err := c.r.List()
	if err != nil {
		return -1, err
	}
	if *quiet {
		for _, s := range all {
			fmt.Fprintln(c.out, s.ID)
		}
		return 0, nil
	}
	switch *format {
	case "json":
		e := json.NewEncoder(c.out)
		e.SetEscapeHTML(false)
		return 0, e.Encode(all)
	case "table":
		w := tabwriter.NewWriter(c.out, 12, 1, 3, ' ', 0)
		fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
		for _, s := range all {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
		}
		return 0, w.Flush()
	}
	return -1, unknownFormat(*format)
}

func unknownFormat(format string) error {
	return cove.E("", "--format", cove.Invalid, fmt.Errorf("%q is neither table nor json", format))
}

func processes(c *command, args []string) (int, error) {
	format := c.flags.String("format", "table", "table or json")
	c.flags.StringVar(format, "f", "table", "the same")
	id, rest, err := c.parse(args, true)
	if err != nil {
		return -1, err
	}
	pids, err := c.r.Pids(id)
	if err != nil {
		return -1, err
	}
	switch *format {
	case "json":
		if pids == nil {
			pids = []int{}
		}
		return 0, json.NewEncoder(c.out).Encode(pids)
	case "table":
		return 0, c.table(pids, rest)
	}
	return -1, unknownFormat(*format)
}

// table prints what ps(1) says of the pids.
func (c *command) table(pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	text, err := exec.Command("ps", options...).Output()
	if err != nil {
		return cove.E("run ps", "", cove.Unavailable, err)
	}
	for _, line := range runtime.Lines(string(text), pids) {
		fmt.Fprintln(c.out, line)
	}
	return nil
}

func pause(c *command, args []string) (int, error)  { return c.simple(args, c.r.Pause) }
func resume(c *command, args []string) (int, error) { return c.simple(args, c.r.Resume) }

func (c *command) simple(args []string, do func(string) error) (int, error) {
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	return 0, do(id)
}

func features(c *command, args []string) (int, error) {
	if err := c.flags.Parse(args); err != nil {
		return -1, err
	}
	return 0, c.json(runtime.Features(), "    ")
}

func events(c *command, args []string) (int, error) {
	once := c.flags.Bool("stats", false, "once, and what is used alone")
	interval := c.flags.Duration("interval", 5*time.Second, "how often")
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	e := json.NewEncoder(c.out)
	return 0, c.r.Events(id, *interval, *once, func(v runtime.Event) error { return e.Encode(v) })
}

func spec(c *command, args []string) (int, error) {
	bundle := c.flags.String("bundle", ".", "directory to write it to")
	c.flags.StringVar(bundle, "b", ".", "the same")
	rootless := c.flags.Bool("rootless", false, "for an ordinary user")
	if err := c.flags.Parse(args); err != nil {
		return -1, err
	}
	file := strings.TrimSuffix(*bundle, "/") + "/config.json"
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return -1, cove.E("write spec", file, cove.Exists, err)
	}
	e := json.NewEncoder(io.Writer(f))
	e.SetIndent("", "\t")
	err = e.Encode(runtime.DefaultSpec(*rootless))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return 0, err
}
