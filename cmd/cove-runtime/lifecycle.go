package main

import (
	"encoding/json"
	"os"
	"strconv"

	"github.com/cove-engine/cove/internal/runtime"
)

// creating declares the flags that create and run share.
func creating(c *command, o *runtime.CreateOptions) {
	c.flags.StringVar(&o.Bundle, "bundle", ".", "directory with config.json")
	c.flags.StringVar(&o.Bundle, "b", ".", "the same")
	c.flags.StringVar(&o.ConsoleSocket, "console-socket", "", "socket that is sent the terminal")
	c.flags.StringVar(&o.PIDFile, "pid-file", "", "file for the container's process ID")
	c.flags.StringVar(&o.PIDFDSocket, "pidfd-socket", "", "socket that is sent the container's process by descriptor")
	c.flags.IntVar(&o.Preserve, "preserve-fds", 0, "how many descriptors from 3 on the command keeps")
	c.flags.BoolVar(&o.NoPivot, "no-pivot", false, "move the root in place of pivot_root, for a root on a ramfs")
	c.flags.BoolVar(&o.NoKeyring, "no-new-keyring", false, "keep the caller's session keyring")
}

func create(c *command, args []string) (int, error) {
	var o runtime.CreateOptions
	creating(c, &o)
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	if err := activation(c, &o); err != nil {
		return -1, err
	}
	_, err = c.r.Create(id, o)
	return 0, err
}

func runContainer(c *command, args []string) (int, error) {
	var o runtime.RunOptions
	creating(c, &o.CreateOptions)
	c.flags.BoolVar(&o.Detach, "detach", false, "do not wait for the container")
	c.flags.BoolVar(&o.Detach, "d", false, "the same")
	c.flags.BoolVar(&o.Keep, "keep", false, "do not remove the container when it has ended")
	c.flags.BoolVar(&o.NoSubreaper, "no-subreaper", false, "do not become the parent of the container's orphans")
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	if err := activation(c, &o.CreateOptions); err != nil {
		return -1, err
	}
	return c.r.Run(id, o)
}

// activation keeps the sockets that systemd has opened for us,
// sd_listen_fds(3), and the descriptors behind them that it was told to keep.
func activation(c *command, o *runtime.CreateOptions) error {
	if err := c.keep("--preserve-fds", o.Preserve); err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err == nil && n > 0 && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		o.Listen = n
		return c.keep("LISTEN_FDS and --preserve-fds", n+o.Preserve)
	}
	return nil
}

func start(c *command, args []string) (int, error) {
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	return 0, c.r.Start(id)
}

func kill(c *command, args []string) (int, error) {
	all := c.flags.Bool("all", false, "every process of the container, not the first alone")
	c.flags.BoolVar(all, "a", false, "the same")
	id, rest, err := c.parse(args, true)
	if err != nil {
		return -1, err
	}
	word := "TERM"
	switch len(rest) {
	case 0:
	case 1:
		word = rest[0]
	default:
		return -1, errTooMany(rest[1])
	}
	sig, err := runtime.Signal(word)
	if err != nil {
		return -1, err
	}
	return 0, c.r.Kill(id, sig, *all)
}

type errTooMany string

func (e errTooMany) Error() string { return strconv.Quote(string(e)) + " is one argument too many" }

func remove(c *command, args []string) (int, error) {
	force := c.flags.Bool("force", false, "kill it if it is not stopped; none is no error")
	c.flags.BoolVar(force, "f", false, "the same")
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	return 0, c.r.Delete(id, *force)
}

func state(c *command, args []string) (int, error) {
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	s, err := c.r.State(id)
	if err != nil {
		return -1, err
	}
	return 0, c.json(s, "  ")
}

// json prints v.
func (c *command) json(v any, indent string) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
