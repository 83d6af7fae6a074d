package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove/internal/engine"
)

type statsOptions struct {
	*app
	all, latest, noReset, noStream, noTrunc bool
	format                                  string
	interval                                int
}

func statsCommand(a *app) *cobra.Command {
	o := &statsOptions{app: a}
	c := &cobra.Command{
		Use: "stats [options] [CONTAINER...]",
		Long: `Display percentage of CPU, memory, network I/O, block I/O and PIDs for one or more containers.

Exit codes:
  125  a container is missing`,
		Example: `  cove stats --all --no-stream
  cove stats ctrID
  cove stats --no-stream --format "table {{.ID}} {{.Name}} {{.MemUsage}}" ctrID`,
		ValidArgsFunction: a.completeContainers(0, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *statsOptions) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.all, "all", "a", false, "Show all containers. Only running containers are shown by default. The default is false")
	fs.StringVar(&o.format, "format", "", "Pretty-print container statistics to JSON or using a Go template")
	fs.IntVarP(&o.interval, "interval", "i", 5, "Time in seconds between stats reports")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container cove is aware of")
	fs.BoolVar(&o.noReset, "no-reset", false, "Disable resetting the screen between intervals")
	fs.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result, default setting is false")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
}

func (o *statsOptions) run(ctx context.Context, args []string) error {
	n := 0
	for _, b := range []bool{o.all, o.latest, len(args) > 0} {
		if b {
			n++
		}
	}
	if n > 1 {
		return errors.New("--all, --latest and containers cannot be used together")
	}
	if o.interval < 1 {
		return errors.New("invalid interval, must be a positive number greater zero")
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	if o.latest {
		list, err := e.List(ctx, engine.ListOptions{All: true, Latest: true})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("no containers to act on")
		}
		args = []string{list[0].ID}
	}
	before := map[string]engine.Stats{}
	for {
		list, err := e.Stats(ctx, args, o.all)
		if err != nil {
			return err
		}
		if !o.noStream && !o.noReset && !isJSON(o.format) && o.outTerminal() != nil {
			fmt.Fprint(o.Out, "\x1b[2J\x1b[H")
		}
		if err := o.show(list, before); err != nil || o.noStream {
			return err
		}
		for _, s := range list {
			before[s.ID] = s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(o.interval) * time.Second):
		}
	}
}

// show prints one round of samples; before are those of the last round.
func (o *statsOptions) show(list []engine.Stats, before map[string]engine.Stats) error {
	rows := make([]statsRow, len(list))
	for i, s := range list {
		rows[i] = statsRow{s: s, full: o.noTrunc}
		if b, ok := before[s.ID]; ok {
			rows[i].before = &b
		}
	}
	if isJSON(o.format) {
		out := make([]statsJSON, len(rows))
		for i, r := range rows {
			out[i] = statsJSON{
				r.ID(), r.Name(), r.CPUTime(), r.CPUPerc(), r.AvgCPU(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDs(),
			}
		}
		return o.printJSONIndent(out, " ")
	}
	return listing{
		columns: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}\t{{.CPUTime}}\t{{.AvgCPU}}",
		headers: map[string]string{
			"AvgCPU": "AVG CPU %", "BlockIO": "BLOCK IO", "CPU": "CPU %", "CPUPerc": "CPU %", "CPUTime": "CPU TIME",
			"MemPerc": "MEM %", "MemUsage": "MEM USAGE / LIMIT", "MemUsageBytes": "MEM USAGE / LIMIT", "NetIO": "NET IO", "PIDs": "PIDS", "PIDS": "PIDS",
		},
		format: o.format,
	}.print(o.Out, anys(rows))
}

// statsJSON is podman's JSON shape of one sample.
type statsJSON struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	CPUTime    string `json:"cpu_time"`
	CPUPercent string `json:"cpu_percent"`
	AvgCPU     string `json:"avg_cpu"`
	MemUsage   string `json:"mem_usage"`
	MemPerc    string `json:"mem_percent"`
	NetIO      string `json:"net_io"`
	BlockIO    string `json:"block_io"`
	PIDs       string `json:"pids"`
}

// statsRow is what the templates of stats see.
type statsRow struct {
	s      engine.Stats
	before *engine.Stats // of the last round; nil: since the start
	full   bool
}

// ID, Name and their kin are the fields of --format.
func (r statsRow) ID() string          { return shortID(r.s.ID, r.full) }
func (r statsRow) Container() string   { return r.ID() }
func (r statsRow) ContainerID() string { return r.s.ID }
func (r statsRow) Name() string        { return r.s.Name }
func (r statsRow) PIDs() string        { return fmt.Sprint(r.s.PIDs) }
func (r statsRow) PIDS() string        { return r.PIDs() }
func (r statsRow) CPUTime() string     { return time.Duration(r.s.CPUNano).String() }
func (r statsRow) UpTime() string      { return r.uptime().String() }
func (r statsRow) CPU() string         { return r.CPUPerc() }

// CPUPerc is the use of CPU since the last round, of one CPU.
func (r statsRow) CPUPerc() string {
	if r.before == nil {
		return r.AvgCPU()
	}
	return percent(float64(r.s.CPUNano-min(r.s.CPUNano, r.before.CPUNano)), float64(r.s.At.Sub(r.before.At)))
}

// AvgCPU is the use of CPU since the start.
func (r statsRow) AvgCPU() string { return percent(float64(r.s.CPUNano), float64(r.uptime())) }

func (r statsRow) uptime() time.Duration {
	if r.s.Started.IsZero() || r.s.At.Before(r.s.Started) {
		return 0
	}
	return r.s.At.Sub(r.s.Started)
}

// MemUsage is use and limit in decimal units, MemUsageBytes in binary ones.
func (r statsRow) MemUsage() string {
	return units.HumanSize(float64(r.s.MemUsage)) + " / " + units.HumanSize(float64(r.s.MemLimit))
}

func (r statsRow) MemUsageBytes() string {
	return units.BytesSize(float64(r.s.MemUsage)) + " / " + units.BytesSize(float64(r.s.MemLimit))
}

func (r statsRow) MemPerc() string { return percent(float64(r.s.MemUsage), float64(r.s.MemLimit)) }

func (r statsRow) NetIO() string {
	return units.HumanSize(float64(r.s.NetIn)) + " / " + units.HumanSize(float64(r.s.NetOut))
}

func (r statsRow) BlockIO() string {
	return units.HumanSize(float64(r.s.BlockIn)) + " / " + units.HumanSize(float64(r.s.BlockOut))
}

// percent is part of whole with two digits.
func percent(part, whole float64) string {
	if whole <= 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", part/whole*100)
}
