# Sourced: where each peer listens and how it starts. To add a system, add a
# case here and its launch script.
#   peer NAME sets SH (launch script), START (its arguments), PIDS, ARGS (for bench)
# What cmq writes in its first segment is counted for more than it is (the kernel counts whole large pages of a file
# that was read before), so cmq is primed with more than that.
CMQ=127.0.0.1:7711,127.0.0.1:7712,127.0.0.1:7713
peer() {
  case $1 in
  cmq)             SH=cmq.sh START=start; PIDS=$RUN/cmq/pids; ARGS="-peer cmq -prime 100000 -addrs $CMQ -backlog 1000000" ;;
  cmq-batch)       SH=cmq.sh START=start; PIDS=$RUN/cmq/pids; ARGS="-peer cmq -o batch=16 -prime 100000 -addrs $CMQ -backlog 1000000" ;;
  cmq-wide)        SH=cmq.sh START=start; PIDS=$RUN/cmq/pids; ARGS="-peer cmq -o receive=64 -prime 100000 -addrs $CMQ -backlog 2000000" ;;
  cmq-http)        SH=cmq.sh START=start; PIDS=$RUN/cmq/pids; ARGS="-peer cmq -o http=true -o batch=16 -prime 100000 -conns 64 -addrs $CMQ -backlog 200000" ;;
  http-singles)    SH=cmq.sh START=start; PIDS=$RUN/cmq/pids; ARGS="-peer cmq -o http=true -prime 100000 -conns 64 -addrs $CMQ -backlog 100000" ;;
  http-empty)      SH=empty.sh START=start; PIDS=$RUN/empty/pids; ARGS="-peer empty -conns 64 -addrs 127.0.0.1:7761" ;;
  naive)           SH=naive.sh START=start; PIDS=$RUN/naive/pids; ARGS="-peer naive -addrs 127.0.0.1:7051 -backlog 1500000" ;;
  rabbit-quorum)   SH=rabbit.sh START=start; PIDS=$RUN/rabbit/pids; ARGS="-peer rabbit -addrs 127.0.0.1:5681,127.0.0.1:5682,127.0.0.1:5683 -backlog 400000" ;;
  rabbit-mirrored) SH=rabbit.sh START=start; PIDS=$RUN/rabbit/pids; ARGS="-peer rabbit -o type=classic -queue mirror -addrs 127.0.0.1:5681,127.0.0.1:5682,127.0.0.1:5683 -backlog 150000" ;;
  nats-default)    SH=nats.sh START="start default"; PIDS=$RUN/nats/pids; ARGS="-peer nats -addrs 127.0.0.1:4231,127.0.0.1:4232,127.0.0.1:4233 -backlog 600000" ;;
  nats-always)     SH=nats.sh START="start always"; PIDS=$RUN/nats/pids; ARGS="-peer nats -addrs 127.0.0.1:4231,127.0.0.1:4232,127.0.0.1:4233 -backlog 250000" ;;
  *) echo "no peer $1" >&2; exit 1 ;;
  esac
  SH=$HERE/scripts/$SH
  ARGS="$ARGS -name $1 -piddir $PIDS"
}
