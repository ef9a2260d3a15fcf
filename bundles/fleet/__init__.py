"""The centre's view of its fleet: takes reports, and shows what no single machine shines through.

    POST -> counting: report, ingest, pending reports, release -> analysis -> pages, api

Everything that is shown is computed from *released* cells, each of which counts ten machines or
more (docs/explanation/fleet.md). Nothing but ``counting.release`` reads pending reports. Entered
by ``cli``; ``app.application`` is the ASGI application.
"""
