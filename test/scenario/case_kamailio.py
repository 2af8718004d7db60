# SPDX-License-Identifier: Apache-2.0
"""Kamailio as a neighbour: an edge of the client in front of Weir, a server behind it, both."""
import shutil

from kit.case import case
from kit.ends import check, equal


def have_kamailio():
    return shutil.which("kamailio") is not None


# in front (Kamailio records routes and sends all to Weir), behind (Weir's target is Kamailio, which
# records routes and sends all to the server)
for front, behind in ((True, False), (False, True), (True, True)):
    where = " and ".join(w for w, on in (("in front", front), ("behind", behind)) if on)
    for tcp in (False, True):
        for caller, server in (("uac", "uas"), ("uac_bye", "uas_bye"),
                               ("uac_cancel", "uas_cancel")):
            if tcp and caller == "uac_cancel":
                continue
            @case(f"kamailio {where}, {'tcp' if tcp else 'udp'}, {caller}", shows=have_kamailio,
                  timeout=60)
            def _(t, front=front, behind=behind, tcp=tcp, caller=caller, server=server):
                word = "tcp" if tcp else "udp"
                t.sipp(server, t.ip(10), 5060, tcp=tcp)
                target = t.ip(10)
                if behind:
                    t.kamailio(t.ip(20), 5060, (t.ip(10), 5060), tcp_next=tcp)
                    target = t.ip(20)
                weir = t.edge([f"{word}://{target}:5060"])
                first = t.outside
                if front:
                    t.kamailio(t.ip(30), 5060, t.outside, tcp_next=tcp)
                    first = (t.ip(30), 5060)
                t.sipp(caller, t.ip(100), 5060, dest=first, calls=30, rate=30, tcp=tcp).done(30)
                rows = weir.logged(lambda r: r["method"] == "INVITE", 30)
                equal({r["status"] for r in rows}, {487 if "cancel" in caller else 200}, "INVITEs")
                counters = weir.counters()
                equal((counters["routes_refused"], counters["tokens_bad"]), (0, 0), "all trusted")


@case("kamailio behind answers OPTIONS probes, and failing over to it works", shows=have_kamailio)
def _(t):
    server = t.server(10)
    t.kamailio(t.ip(20), 5060, (t.ip(10), 5060))
    weir = t.edge([f"udp://{t.ip(9)}:5060", f"udp://{t.ip(20)}:5060"],
                  {"health": {"every": "300ms", "timeout": "200ms", "fall": 2}})
    end = t.end()
    for _ in range(6):
        t.call(end).whole()
    check(weir.targets()[f"udp://{t.ip(20)}:5060"]["fit"], "it is fit")
    equal(len(server.invites()), 6, "calls through it")
