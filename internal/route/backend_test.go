package route_test

import (
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/route"
)

// The doors' view of this package, checked by the compiler.
var _ access.Backend = (*route.Router)(nil)
