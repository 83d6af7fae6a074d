package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/inspect"
)

func versionCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "version [options]",
		Long:    "Display the cove version information. Opens no store.",
		Example: "  cove version\n  cove version --format '{{.Client.Version}}'",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			v := a.version()
			switch {
			case format == "":
				return writeVersion(a.Out, v)
			case isJSON(format):
				return a.printJSONIndent(map[string]inspect.Version{"Client": v}, "  ")
			}
			return a.printTemplate(format, versionFields(v))
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Change the output format to JSON or a Go template")
	return c
}

// versionFields is what templates of `cove version` see. There is no server;
// Server is what Client is because scripts written for docker ask for it.
func versionFields(v inspect.Version) any {
	return struct {
		APIVersion, Version, GoVersion, GitCommit string
		BuiltTime, OsArch, Os                     string
		Built                                     int64
		Client, Server                            *inspect.Version
	}{v.APIVersion, v.Version, v.GoVersion, v.GitCommit, v.BuiltTime, v.OsArch, v.Os, v.Built, &v, &v}
}

func writeVersion(w io.Writer, v inspect.Version) error {
	t := tabwriter.NewWriter(w, 12, 2, 2, ' ', 0)
	fmt.Fprintf(t, "Client:\tCove Engine\nVersion:\t%s\nAPI Version:\t%s\nGo Version:\t%s\n", v.Version, v.APIVersion, v.GoVersion)
	if v.GitCommit != "" {
		fmt.Fprintf(t, "Git Commit:\t%s\n", v.GitCommit)
	}
	if v.BuiltTime != "" {
		fmt.Fprintf(t, "Built:\t%s\n", v.BuiltTime)
	}
	fmt.Fprintf(t, "OS/Arch:\t%s\n", v.OsArch)
	return t.Flush()
}

// podmanVersion is that of the podman whose commands and answers cove's are, which
// is what an API version tells.
const podmanVersion = "5.4.2"

// version is this program's, with what the linker was told of it, or else what the
// go command has noted in it.
func (a *app) version() inspect.Version {
	v := inspect.Version{
		APIVersion: podmanVersion, Version: cove.Version, GoVersion: runtime.Version(), GitCommit: cove.Commit,
		OsArch: runtime.GOOS + "/" + runtime.GOARCH, Os: runtime.GOOS,
	}
	v.Built, _ = strconv.ParseInt(cove.Built, 10, 64)
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			switch s.Key {
			case "vcs.revision":
				v.GitCommit = s.Value
			case "vcs.time":
				if at, err := time.Parse(time.RFC3339, s.Value); err == nil {
					v.Built = at.Unix()
				}
			}
		}
	}
	if v.Built > 0 {
		v.BuiltTime = time.Unix(v.Built, 0).Format(time.ANSIC)
	}
	return v
}
