package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/rootless"
)

func unshareCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "unshare [options] [COMMAND [ARG...]]",
		Long: `Run a command in the user namespace of this user's containers.

  There he is root, and files in his containers belong to whom they belong inside.
  Without a command it is the shell. The variables CONTAINERS_GRAPHROOT and
  CONTAINERS_RUNROOT tell where everything is.

Exit codes:
  126  the command cannot be executed
  127  there is no such command
  otherwise the command's`,
		Example: "  cove unshare id\n  cove unshare cat /proc/self/uid_map",
		RunE:    func(_ *cobra.Command, args []string) error { return a.unshare(args) },
	}
	c.Flags().SetInterspersed(false)
	refuse(c.Flags(), []unsupported{{name: "rootless-netns", bool: true, accept: []string{"false"}}})
	return c
}

func (a *app) unshare(command []string) error {
	e, err := a.engine() // in the namespace from here on
	if err != nil {
		return err
	}
	if _, _, user := rootless.User(); !user {
		return errors.New("please use unshare with rootless")
	}
	if len(command) == 0 {
		command = []string{"/bin/sh"}
		if shell := os.Getenv("SHELL"); shell != "" {
			command[0] = shell
		}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		kind := cove.NoCommand
		if errors.Is(err, os.ErrPermission) {
			kind = cove.NotExecutable
		}
		return cove.E("unshare", "", kind, err)
	}
	home, scratch := e.Places()
	for name, cove := range map[string]string{"CONTAINERS_GRAPHROOT": home, "CONTAINERS_RUNROOT": scratch} {
		if err := os.Setenv(name, filepath.Dir(cove)); err != nil {
			return err
		}
	}
	interrupt.Leave()
	return cove.E("unshare", path, cove.NotExecutable, rootless.Exec(path, command))
}
