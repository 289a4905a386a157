package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print version, revision and Go version", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := version()
			return a.show(v, nil, [][]string{{"cmq", v.Version}, {"revision", v.Revision}, {"go", v.Go}})
		},
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// String is version and revision in one line.
func (v versionInfo) String() string { return v.Version + " " + v.Revision }

// version is what the Go toolchain recorded in the binary.
func version() versionInfo {
	v := versionInfo{Version: "(devel)", Revision: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Revision += " with changes"
		}
	}
	return v
}
