"""The page to try networks on, and its JSON API (``kinemix app``).

::

    Limits, Service      what may be sent, and what is answered: nothing here knows of a page
    answer_clip          one network's answer to one clip, with the frames and the places that it came from
    render_reply         that as HTML
    Uploads              the folder of what visitors send, emptied again
    Gate                 in front of the server: nothing larger, and not more at once, than the limits say
    build_page           the page (gradio)
    serve                until Ctrl-C

Gradio is needed by :mod:`kinemix.app.page` and :mod:`kinemix.app.serve` alone: ``pip install 'kinemix[app]'``.
"""
