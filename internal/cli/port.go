package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

type portOptions struct {
	*app
	selection
}

func portCommand(a *app) *cobra.Command {
	o := &portOptions{app: a}
	c := &cobra.Command{
		Use: "port [options] CONTAINER [PORT]",
		Long: `List port mappings for the CONTAINER, or look up the public-facing port that is NAT-ed to the PRIVATE_PORT

Exit codes:
  125  the container is missing or the port is not published`,
		Example: `  cove port --all
  cove port ctrID 80/tcp
  cove port --latest 80`,
		ValidArgsFunction: a.completeContainers(1, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.selection.flags(c.Flags(), "al", "Display port information for")
	return c
}

func (o *portOptions) run(ctx context.Context, args []string) error {
	if len(args) == 0 && !o.latest && !o.all {
		return errors.New("you must supply a running container name or id")
	}
	var names []string
	port := ""
	switch {
	case o.all:
		names = args
	case o.latest:
		if len(args) > 0 {
			port = args[0]
		}
	default:
		names = args[:1]
		if len(args) > 1 {
			port = args[1]
		}
		if len(args) > 2 {
			return fmt.Errorf("accepts at most 2 arg(s), received %d", len(args))
		}
	}
	proto := ""
	if port != "" {
		number, p, has := strings.Cut(port, "/")
		proto = "tcp"
		if has {
			proto = p
		}
		if _, err := cove.ParsePort(number); err != nil {
			return err
		}
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("invalid port format %q: the protocol must be tcp, udp or sctp", port)
		}
		port = number
	}
	e, ts, err := o.choose(ctx, o.app, names, running)
	if err != nil {
		return err
	}
	for _, t := range ts {
		if !t.known {
			if t.fresh, err = e.Container(ctx, t.name, false); err != nil {
				return err
			}
		}
		if s := t.fresh.Status; s != cove.Running && s != cove.Paused && s != cove.Stopping {
			continue // nothing is published, and podman says nothing
		}
		ports := t.fresh.PortMappings()
		found := len(ports) == 0 // podman says nothing then
		for _, m := range ports {
			ip := cmp.Or(m.HostIP, "0.0.0.0")
			for i := range max(m.Range, 1) {
				host := fmt.Sprintf("%s:%d", ip, m.HostPort+i)
				key := fmt.Sprint(m.ContainerPort + i)
				switch {
				case port == "":
					if o.all {
						fmt.Fprintf(o.Out, "%s\t", shortID(t.fresh.ID, false))
					}
					fmt.Fprintf(o.Out, "%s/%s -> %s\n", key, m.Protocol, host)
				case key == port && m.Protocol == proto:
					found = true
					fmt.Fprintln(o.Out, host)
				}
			}
		}
		if port != "" && !found {
			return fmt.Errorf("failed to find published port %q", args[len(args)-1])
		}
	}
	return nil
}

func topCommand(a *app) *cobra.Command {
	o := &portOptions{app: a}
	c := &cobra.Command{
		Use: "top [options] CONTAINER [FORMAT-DESCRIPTORS|ARGS...]",
		Long: `Display the running processes of a container.

  The top command extends the ps(1) compatible AIX descriptors with container-specific ones as shown below.  In the presence of ps(1) specific flags (e.g, -eo), cove will execute ps(1) inside the container.

Exit codes:
  125  the container is missing or does not run`,
		Example: `  cove top ctrID
  cove top --latest
  cove top ctrID pid seccomp args %C`,
		ValidArgsFunction: a.completeContainers(1, running),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !o.latest {
				return errors.New("you must provide the name or id of a running container")
			}
			var names []string
			if !o.latest {
				names, args = args[:1], args[1:]
			}
			e, ts, err := o.choose(c.Context(), a, names, nil)
			if err != nil {
				return err
			}
			var fields []string
			for _, d := range args {
				if strings.HasPrefix(d, "-") {
					fields = args
					break
				}
				fields = append(fields, strings.Split(d, ",")...)
			}
			rows, err := e.Top(c.Context(), ts[0].name, fields)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.Out, 12, 2, 2, ' ', 0)
			for _, r := range rows {
				fmt.Fprintln(w, strings.Join(r, "\t"))
			}
			return w.Flush()
		},
	}
	c.Flags().SetInterspersed(false)
	o.selection.flags(c.Flags(), "l", "")
	return c
}
